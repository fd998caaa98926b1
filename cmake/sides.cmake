# How targets of each side are built. The include path is the trust boundary: an untrusted target cannot see trusted/,
# and no trusted target can see the engine's headers (tests/boundary tries both).

set(CMIF_WARNINGS -Wall -Wextra -Wconversion -Wshadow -Wstrict-prototypes -Wvla -Werror)
set(CMIF_HARDENING -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fstack-clash-protection -fcf-protection -fPIE)
if(CMIF_SANITIZE)
  list(REMOVE_ITEM CMIF_HARDENING -D_FORTIFY_SOURCE=2)
  add_compile_options(-fsanitize=${CMIF_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${CMIF_SANITIZE})
elseif(CMAKE_BUILD_TYPE STREQUAL "Debug")
  list(REMOVE_ITEM CMIF_HARDENING -D_FORTIFY_SOURCE=2) # wants optimisation
endif()
if(CMIF_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()

function(cmif_flags target)
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:C>:${CMIF_WARNINGS}> ${CMIF_HARDENING})
  target_compile_definitions(${target} PRIVATE _POSIX_C_SOURCE=200809L _DEFAULT_SOURCE CMIF_VERSION="${PROJECT_VERSION}")
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/shared)
  target_link_options(${target} PRIVATE -Wl,-z,relro,-z,now,-z,noexecstack)
endfunction()

function(cmif_side_trusted target)
  cmif_flags(${target})
  target_compile_definitions(${target} PRIVATE CMIF_SIDE_TRUSTED)
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/trusted)
endfunction()

function(cmif_side_untrusted target)
  cmif_flags(${target})
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/untrusted)
endfunction()

# cmif_shared_library(name sources...), and the same for each side: static libraries named cmif_<name>
function(cmif_shared_library name)
  add_library(cmif_${name} STATIC ${ARGN})
  cmif_flags(cmif_${name})
endfunction()

function(cmif_trusted_library name)
  add_library(cmif_${name} STATIC ${ARGN})
  cmif_side_trusted(cmif_${name})
endfunction()

function(cmif_untrusted_library name)
  add_library(cmif_${name} STATIC ${ARGN})
  cmif_side_untrusted(cmif_${name})
endfunction()

add_custom_target(cmif_programs) # what ./demo builds: every program, no test

# cmif_program(side name sources...): a program people run lands in bin/, one that only programs run in libexec/cmif/
function(cmif_program side name)
  add_executable(${name} ${ARGN})
  cmake_language(CALL cmif_side_${side} ${name})
  target_link_options(${name} PRIVATE -pie)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
  add_dependencies(cmif_programs ${name})
  install(TARGETS ${name} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endfunction()

function(cmif_helper_program side name)
  add_executable(${name} ${ARGN})
  cmake_language(CALL cmif_side_${side} ${name})
  target_link_options(${name} PRIVATE -pie)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/libexec/cmif)
  add_dependencies(cmif_programs ${name})
  install(TARGETS ${name} RUNTIME DESTINATION ${CMAKE_INSTALL_LIBEXECDIR}/cmif)
endfunction()

# cmif_test(side name source libraries...): exit 77 is "skipped, with the reason in the output"
function(cmif_test side name source)
  add_executable(${name} ${source})
  cmake_language(CALL cmif_side_${side} ${name})
  target_link_libraries(${name} PRIVATE ${ARGN})
  target_compile_definitions(${name} PRIVATE CMIF_SOURCE_DIR="${PROJECT_SOURCE_DIR}" CMIF_BUILD_DIR="${CMAKE_BINARY_DIR}"
                                             CMIF_ENGINE_SOURCE="${CMIF_ENGINE_SOURCE}")
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 300)
endfunction()

# link options of a test that includes base/check_memory.h
set(CMIF_WRAP_MEMORY -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc)

# cmif_fuzz(side name source libraries...): libFuzzer target, only with CMIF_FUZZ
function(cmif_fuzz side name source)
  if(CMIF_FUZZ)
    add_executable(${name} ${source})
    cmake_language(CALL cmif_side_${side} ${name})
    target_link_libraries(${name} PRIVATE ${ARGN})
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  endif()
endfunction()
