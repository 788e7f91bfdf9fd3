#include "file-lock.hpp"
#include "runtime/error.hpp"

#include <cerrno>
#include <cstring>

#ifdef _WIN32
#include <uv.h>
#include <windows.h>
#else
#include <sys/file.h>
#endif

namespace ggflux {

#ifdef _WIN32

bool lock_file(int fd) {
    const auto handle = static_cast<HANDLE>(uv_get_osfhandle(fd));
    OVERLAPPED first_byte = {};
    if (LockFileEx(handle, LOCKFILE_EXCLUSIVE_LOCK | LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &first_byte)) return true;
    if (GetLastError() == ERROR_LOCK_VIOLATION || GetLastError() == ERROR_IO_PENDING) return false;
    throw Error("FLUX_BAD_FILE", "a file cannot be locked (error " + std::to_string(GetLastError()) + ")");
}

#else

bool lock_file(int fd) {
    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK) return false;
        if (errno == ENOSYS || errno == ENOTSUP || errno == ENOLCK) return true;
        if (errno != EINTR)
            throw Error("FLUX_BAD_FILE", std::string("a file cannot be locked (") + std::strerror(errno) + ")");
    }
    return true;
}

#endif

}  // namespace ggflux
