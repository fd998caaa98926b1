# llama.cpp's C library, never vendored: an installed one that fits (CMAKE_PREFIX_PATH), else tools/engine builds the
# pinned source once into the cache. CMIF_ENGINE_SOURCE is its source tree (test vectors, the Jinja of common/).

set(engine_args)
if(CMIF_CUDA)
  list(APPEND engine_args --cuda)
endif()
execute_process(COMMAND ${PROJECT_SOURCE_DIR}/tools/engine ${engine_args}
                OUTPUT_VARIABLE engine_dir OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
set(CMIF_ENGINE_SOURCE ${engine_dir}/source)
find_package(Threads REQUIRED)
if(CMIF_CUDA)
  find_package(CUDAToolkit REQUIRED)
endif()
find_package(llama REQUIRED PATHS ${engine_dir}/prefix)
message(STATUS "engine: ${engine_dir}")
