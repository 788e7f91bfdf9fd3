// The system's calls on Linux and macOS; windows.cpp has the same functions for Windows.
#include "file-lock.hpp"
#include "mapped-file.hpp"
#include "thread.hpp"

#include "runtime/error.hpp"

#include <fcntl.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

namespace ggflux {

namespace {

int descriptor(intptr_t handle) { return static_cast<int>(handle); }

int64_t nanoseconds(const struct stat & status) {
#ifdef __APPLE__
    const timespec & time = status.st_mtimespec;
#else
    const timespec & time = status.st_mtim;
#endif
    return int64_t{time.tv_sec} * 1000000000 + time.tv_nsec;
}

}  // namespace

// ---- files ----

// Delegates to another constructor, so that the destructor closes the file if the rest of this constructor throws.
MappedFile::MappedFile(const std::string & path) : MappedFile() {
    path_ = path;
    handle_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (handle_ < 0) throw Error("FLUX_NOT_FOUND", path + " cannot be opened: " + std::strerror(errno));
    struct stat status{};
    if (::fstat(descriptor(handle_), &status) != 0)
        throw Error("FLUX_BAD_FILE", path + " cannot be read: " + std::strerror(errno));
    size_ = static_cast<size_t>(status.st_size);
    modified_ = nanoseconds(status);
}

MappedFile::MappedFile(MappedFile && other) noexcept
    : path_(std::move(other.path_)), handle_(std::exchange(other.handle_, -1)), size_(other.size_),
      modified_(other.modified_), mapping_(std::exchange(other.mapping_, nullptr)) {}

MappedFile::~MappedFile() {
    if (mapping_) ::munmap(mapping_, size_);
    close();
}

void MappedFile::close() {
    if (handle_ >= 0) ::close(descriptor(std::exchange(handle_, -1)));
}

bool MappedFile::unchanged() const {
    struct stat status{};
    return ::fstat(descriptor(handle_), &status) == 0 && static_cast<size_t>(status.st_size) == size_ &&
           nanoseconds(status) == modified_;
}

char * MappedFile::map() {
    if (!mapping_) {
        void * address = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor(handle_), 0);
        if (address == MAP_FAILED)
            throw Error("FLUX_OUT_OF_MEMORY", path_ + " cannot be mapped into memory: " + std::strerror(errno));
        mapping_ = address;
    }
    return static_cast<char *>(mapping_);
}

void MappedFile::read(size_t offset, char * into, size_t count) const {
    while (count > 0) {
        const ssize_t got = ::pread(descriptor(handle_), into, count, static_cast<off_t>(offset));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0)
            throw Error("FLUX_BAD_FILE", path_ + " ended or failed while it was read; was it changed meanwhile?");
        into += got;
        offset += static_cast<size_t>(got);
        count -= static_cast<size_t>(got);
    }
}

void use_huge_pages(char * address, size_t size) {
#ifdef MADV_HUGEPAGE
    const uintptr_t page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
    const uintptr_t begin = (reinterpret_cast<uintptr_t>(address) + page - 1) / page * page,
                    end = (reinterpret_cast<uintptr_t>(address) + size) / page * page;
    if (begin < end) ::madvise(reinterpret_cast<void *>(begin), end - begin, MADV_HUGEPAGE);
#else
    (void) address, (void) size;
#endif
}

bool lock_file(int fd) {
    while (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK) return false;
        if (errno == ENOSYS || errno == ENOTSUP || errno == ENOLCK) return true;
        if (errno != EINTR)
            throw Error("FLUX_BAD_FILE", std::string("a file cannot be locked (") + std::strerror(errno) + ")");
    }
    return true;
}

// ---- threads ----

void Thread::start(Result (*run)(void *), void * argument) {
    pthread_attr_t attributes;
    ::pthread_attr_init(&attributes);
    ::pthread_attr_setstacksize(&attributes, stack_size);
    pthread_t thread;
    const int failure = ::pthread_create(&thread, &attributes, run, argument);
    ::pthread_attr_destroy(&attributes);
    if (failure != 0) throw std::system_error(failure, std::generic_category());
    handle_ = reinterpret_cast<uintptr_t>(thread);
}

void Thread::join() { ::pthread_join(reinterpret_cast<pthread_t>(handle_), nullptr); }

void Thread::detach() { ::pthread_detach(::pthread_self()); }

}  // namespace ggflux
