# Builds ggml as loadable modules. The base library has its own name, so that another ggml in the same process is never
# used by mistake. The CPU module is built in one variant or in all.
set(GGML_BACKEND_DL ON)
set(BUILD_SHARED_LIBS ON)
set(GGML_NATIVE OFF)
set(GGML_CCACHE OFF)      # set for the whole project instead
set(GGML_OPENMP OFF)      # ggml's own threads: no library to ship, no threads that spin between calls
set(GGML_LLAMAFILE ON)    # tinyBLAS, for the types without a repacked format
set(GIT_EXE "" CACHE INTERNAL "")   # otherwise ggml reports ggflux's commit and recompiles after each one
set(GGML_BUILD_TESTS OFF)
set(GGML_BUILD_EXAMPLES OFF)
set(GGML_RPC ON)          # to use the devices of another machine
set(GGML_RPC_RDMA OFF CACHE BOOL "" FORCE)
if (APPLE)
    set(GGML_METAL_EMBED_LIBRARY ON)   # the kernels' source inside the module
else()
    set(GGML_BLAS OFF)
endif()

if (GGFLUX_CPU_VARIANTS STREQUAL "all")
    set(GGML_CPU_ALL_VARIANTS ON)
elseif (CMAKE_CROSSCOMPILING)
    # Nothing is known of the machine, so we choose what most processors have: AVX2 (Intel and AMD since 2013 to 2015),
    # or dot products of bytes (Arm's since 2018).
    if (CMAKE_SYSTEM_PROCESSOR STREQUAL "x86_64")
        foreach (feature SSE42 AVX AVX2 BMI2 FMA F16C)
            set(GGML_${feature} ON)
        endforeach()
    else()
        set(GGML_CPU_ARM_ARCH armv8.2-a+dotprod)
    endif()
elseif (CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64" AND NOT MSVC)
    # GGML_NATIVE and GGML_BACKEND_DL exclude each other. So we ask the compiler what this machine supports and enable
    # only that.
    execute_process(COMMAND ${CMAKE_C_COMPILER} -march=native -dM -E -x c /dev/null OUTPUT_VARIABLE machine)
    foreach (pair SSE42=SSE4_2 AVX=AVX AVX2=AVX2 BMI2=BMI2 FMA=FMA F16C=F16C AVX_VNNI=AVXVNNI AVX512=AVX512BW AVX512_VBMI=AVX512VBMI
                  AVX512_VNNI=AVX512VNNI AVX512_BF16=AVX512BF16 AMX_TILE=AMX_TILE AMX_INT8=AMX_INT8)
        string(REPLACE "=" ";" pair ${pair})
        list(GET pair 0 feature)
        list(GET pair 1 macro)
        if (machine MATCHES "#define __${macro}__ 1")
            set(GGML_${feature} ON)
        else()
            set(GGML_${feature} OFF)
        endif()
    endforeach()
elseif (CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64|ARM64" AND NOT MSVC)
    set(GGML_CPU_ARM_ARCH native)
endif()

if (GGML_CUDA)
    include(native/ggml/ggml-cuda.cmake)
endif()

# ggml's list of variants has some that a compiler refuses: SME with g++ before 14, and AMX with mingw-w64's g++ 12,
# whose tile functions take strides as `long`, which on Windows has half the bits of an address. So a variant is left
# out by not being a dependency of ggml: nothing of ggml is compiled that nothing needs (EXCLUDE_FROM_ALL).
set(left_out "")
if (MINGW)
    set(left_out ggml-cpu-sapphirerapids)
elseif (CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
    include(CheckCXXCompilerFlag)
    check_cxx_compiler_flag(-march=armv9.2-a+sme GGFLUX_COMPILER_HAS_SME)
    if (NOT GGFLUX_COMPILER_HAS_SME)
        set(left_out ggml-cpu-armv9.2_1 ggml-cpu-armv9.2_2)
    endif()
endif()
function(add_dependencies target)
    if (NOT ARGN IN_LIST left_out)
        _add_dependencies(${target} ${ARGN})
    endif()
endfunction()

get_directory_property(options COMPILE_OPTIONS)
if (NOT MSVC)
    add_compile_options(-w)   # we do not fix ggml's warnings
endif()
add_subdirectory(ggml ${CMAKE_BINARY_DIR}/ggml EXCLUDE_FROM_ALL)
set_directory_properties(PROPERTIES COMPILE_OPTIONS "${options}")

foreach (library ggml ggml-base)
    set_target_properties(${library} PROPERTIES OUTPUT_NAME ggflux-${library})
    set_property(TARGET ${library} PROPERTY VERSION)   # no version in the name: npm packages cannot contain symlinks
    set_property(TARGET ${library} PROPERTY SOVERSION)
endforeach()
if (WIN32)
    # GPU modules that others compiled name `ggml-base.dll`, and have room for a name of 13 characters in its place.
    set_target_properties(ggml-base PROPERTIES OUTPUT_NAME ggflux-gb)
endif()

# A GPU's module has a folder of its own, see CMakeLists.txt.
foreach (backend cuda vulkan metal)
    if (TARGET ggml-${backend})
        set_target_properties(ggml-${backend} PROPERTIES LIBRARY_OUTPUT_DIRECTORY "${GGFLUX_OUTPUT}/${backend}"
            RUNTIME_OUTPUT_DIRECTORY "${GGFLUX_OUTPUT}/${backend}")
        if (APPLE)
            set_target_properties(ggml-${backend} PROPERTIES INSTALL_RPATH "@loader_path/..")
        else()
            set_target_properties(ggml-${backend} PROPERTIES INSTALL_RPATH "$ORIGIN/..")
        endif()
    endif()
endforeach()

# Some files of ggml are compiled with a header in front, because their problems cannot be fixed from outside.
function(put_in_front header source)
    set_property(SOURCE ${CMAKE_CURRENT_SOURCE_DIR}/ggml/src/ggml-cpu/${source}
        DIRECTORY ggml/src APPEND PROPERTY COMPILE_OPTIONS "-include;${CMAKE_CURRENT_SOURCE_DIR}/native/ggml/${header}")
endfunction()

if (NOT WIN32)
    put_in_front(fewer-threads.h ggml-cpu.c)          # if the system refuses to create threads
endif()

if (CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64" AND NOT MSVC)
    put_in_front(cpu-relax.h ggml-cpu.c)              # waiting threads yield
    if (CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
        put_in_front(amx-tile-config.h amx/mmq.cpp)   # g++ 12 drops most of the tile configuration
    endif()
endif()

if (NOT MSVC)
    target_compile_options(ggml-rpc PRIVATE -include ${CMAKE_CURRENT_SOURCE_DIR}/native/ggml/rpc-abort.h)
else()
    target_compile_options(ggml-rpc PRIVATE /FI${CMAKE_CURRENT_SOURCE_DIR}/native/ggml/rpc-abort.h)
endif()
include(native/ggml/ggml-rpc.cmake)
if (GGML_CUDA)
    include(native/ggml/ggml-cuda-mended.cmake)
endif()
