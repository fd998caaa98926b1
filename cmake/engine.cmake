# llama.cpp's C library, never vendored. An installed one is used when it fits: when its llama.h is, byte for byte, that of
# the pinned source (its structs are our ABI, and a session must mean the same on every machine). Otherwise tools/engine
# builds the pinned source once into the cache. CMIF_ENGINE_SOURCE is the source tree either way (test vectors, and the
# Jinja of common/ that `cmif split` uses).

set(engine_header_sha256 d5cf9203bea63b575e76cba4881f29cfd1b611451578b01582b75b72ecbb04bc)
set(engine_args)
set(engine_installed OFF)
find_file(engine_header llama.h NO_CACHE)
if(CMIF_CUDA)
  list(APPEND engine_args --cuda) # whether an installed one was built with CUDA cannot be told from outside
elseif(engine_header)
  file(SHA256 ${engine_header} engine_header_found)
  if(engine_header_found STREQUAL engine_header_sha256)
    set(engine_installed ON)
    list(APPEND engine_args --source)
  else()
    message(STATUS "engine: ${engine_header} is of another version of llama.cpp; not used")
  endif()
endif()
execute_process(COMMAND ${PROJECT_SOURCE_DIR}/tools/engine ${engine_args}
                OUTPUT_VARIABLE engine_dir OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
set(CMIF_ENGINE_SOURCE ${engine_dir}/source)
find_package(Threads REQUIRED)
if(CMIF_CUDA)
  find_package(CUDAToolkit REQUIRED)
endif()
if(NOT "${engine_dir} ${engine_installed}" STREQUAL "${CMIF_ENGINE_SEEN}")
  unset(llama_DIR CACHE) # another engine than last time: forget where that one was
  unset(llama_LIBRARY CACHE)
  unset(ggml_DIR CACHE)
endif()
if(engine_installed)
  find_package(llama REQUIRED)
else()
  find_package(llama REQUIRED PATHS ${engine_dir}/prefix NO_DEFAULT_PATH)
endif()
set(CMIF_ENGINE_SEEN "${engine_dir} ${engine_installed}" CACHE INTERNAL "the engine of the last configuration")
message(STATUS "engine: ${llama_LIBRARY}")
