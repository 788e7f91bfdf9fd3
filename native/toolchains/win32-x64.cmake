# Windows x64 by mingw-w64, on Linux (Debian, Ubuntu: apt install g++-mingw-w64-x86-64-posix). `posix` means its threads:
# with the other kind this compiler has no std::thread.
# Stacks are aligned to 16 bytes on Windows, and g++ takes them for aligned to more. Debian's compiler writes unaligned
# vector moves only, so nothing crashes. Another one needs -Wa,-muse-unaligned-vector-move.
set(CMAKE_SYSTEM_NAME Windows)
set(CMAKE_SYSTEM_PROCESSOR x86_64)
set(CMAKE_C_COMPILER x86_64-w64-mingw32-gcc-posix)
set(CMAKE_CXX_COMPILER x86_64-w64-mingw32-g++-posix)
set(CMAKE_RC_COMPILER x86_64-w64-mingw32-windres)
set(CMAKE_DLLTOOL x86_64-w64-mingw32-dlltool)
set(CMAKE_FIND_ROOT_PATH /usr/x86_64-w64-mingw32)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
foreach (kind SHARED MODULE)
    # The compiler's libraries become parts of each file, and are not exported from it: two files that both export them
    # cannot be linked with each other.
    set(CMAKE_${kind}_LINKER_FLAGS_INIT "-static -Wl,--exclude-libs,ALL")
endforeach()
