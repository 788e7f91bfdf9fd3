# This runs before ggml's own CMake files. It provides stubs for the NVIDIA libraries that are missing on the build
# machine. The module links against their names and finds the real libraries at run time. Header:
# native/ggml/cuda/cublas_v2.h.
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)

function(stand_in target library soname definition)
    if (TARGET CUDA::${target})
        return()
    endif()
    add_library(ggflux-stub-${target} SHARED native/ggml/cuda/stubs.c)
    target_compile_definitions(ggflux-stub-${target} PRIVATE ${definition})
    set_target_properties(ggflux-stub-${target} PROPERTIES OUTPUT_NAME ${library} LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/stubs
        NO_SONAME ON LINK_FLAGS "-Wl,-soname,${soname}")
    add_library(CUDA::${target} INTERFACE IMPORTED GLOBAL)
    set_property(TARGET CUDA::${target} PROPERTY INTERFACE_LINK_LIBRARIES ggflux-stub-${target})
    message(STATUS "CUDA::${target} is missing here: linked by name alone")
endfunction()

if (NOT TARGET CUDA::cublas)
    stand_in(cublas cublas libcublas.so.13 GGFLUX_STUB_CUBLAS)
    set_property(TARGET CUDA::cublas PROPERTY INTERFACE_INCLUDE_DIRECTORIES ${CMAKE_CURRENT_SOURCE_DIR}/native/ggml/cuda)
endif()
stand_in(cuda_driver cuda libcuda.so.1 GGFLUX_STUB_CUDA)
