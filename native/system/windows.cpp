// The system's calls on Windows; posix.cpp has the same functions for Linux and macOS.
#include "file-lock.hpp"
#include "mapped-file.hpp"
#include "thread.hpp"

#include "runtime/error.hpp"

#ifndef NOMINMAX
#define NOMINMAX
#endif
#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#include <process.h>

#include <algorithm>
#include <system_error>
#include <utility>

// Of libuv, in the program that runs us. Its headers are in no npm package. The C library has `_get_osfhandle`, but the
// program has a C library of its own, so ours cannot know its descriptors.
extern "C" void * uv_get_osfhandle(int fd);

namespace ggflux {

namespace {

HANDLE handle_of(intptr_t handle) { return reinterpret_cast<HANDLE>(handle); }

std::wstring wide(const std::string & text) {
    std::wstring result(text.size(), L'\0');  // UTF-8 never has fewer bytes than UTF-16 has units
    const int room = static_cast<int>(result.size());
    result.resize(MultiByteToWideChar(CP_UTF8, 0, text.data(), static_cast<int>(text.size()), result.data(), room));
    return result;
}

std::string utf8(const std::wstring & text) {
    std::string result(3 * text.size(), '\0');
    const int room = static_cast<int>(result.size()), length = static_cast<int>(text.size());
    result.resize(WideCharToMultiByte(CP_UTF8, 0, text.data(), length, result.data(), room, nullptr, nullptr));
    return result;
}

// What the last call that failed says, in the language of Windows.
std::string last_error() {
    const DWORD error = GetLastError();
    wchar_t text[512];
    DWORD length = FormatMessageW(FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS, nullptr, error, 0, text,
                                  512, nullptr);
    while (length > 0 && wcschr(L"\r\n .", text[length - 1])) length--;
    return utf8(std::wstring(text, length)) + " (error " + std::to_string(error) + ")";
}

// Without the prefix \\?\ Windows refuses paths of 260 characters and more. With it a path has to be absolute, and has
// to have backslashes only.
std::wstring system_path(const std::string & path) {
    const std::wstring given = wide(path);
    const DWORD room = GetFullPathNameW(given.c_str(), 0, nullptr, nullptr);
    if (room < MAX_PATH) return given;
    std::wstring full(room, L'\0');
    full.resize(GetFullPathNameW(given.c_str(), room, full.data(), nullptr));
    if (full.compare(0, 4, L"\\\\?\\") == 0 || full.compare(0, 4, L"\\\\.\\") == 0) return full;
    return full.compare(0, 2, L"\\\\") == 0 ? L"\\\\?\\UNC\\" + full.substr(2) : L"\\\\?\\" + full;
}

// Size, and the time of the last change.
bool describe(intptr_t handle, size_t & size, int64_t & modified) {
    LARGE_INTEGER length;
    FILE_BASIC_INFO basic;
    if (!GetFileSizeEx(handle_of(handle), &length) ||
        !GetFileInformationByHandleEx(handle_of(handle), FileBasicInfo, &basic, sizeof(basic)))
        return false;
    size = static_cast<size_t>(length.QuadPart);
    modified = basic.LastWriteTime.QuadPart;
    return true;
}

}  // namespace

// ---- files ----

// Delegates to another constructor, so that the destructor closes the file if the rest of this constructor throws.
MappedFile::MappedFile(const std::string & path) : MappedFile() {
    path_ = path;
    const std::wstring name = system_path(path);
    // others may read, write, rename and delete it meanwhile, as on Linux
    const DWORD sharing = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;
    handle_ = reinterpret_cast<intptr_t>(
        CreateFileW(name.c_str(), GENERIC_READ, sharing, nullptr, OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL, nullptr));
    if (handle_ == -1) {
        const std::string why = last_error();
        const DWORD attributes = GetFileAttributesW(name.c_str());
        if (attributes != INVALID_FILE_ATTRIBUTES && (attributes & FILE_ATTRIBUTE_DIRECTORY))
            throw Error("FLUX_BAD_FILE", path + " cannot be read: it is a folder");
        throw Error("FLUX_NOT_FOUND", path + " cannot be opened: " + why);
    }
    if (!describe(handle_, size_, modified_)) throw Error("FLUX_BAD_FILE", path + " cannot be read: " + last_error());
}

MappedFile::MappedFile(MappedFile && other) noexcept
    : path_(std::move(other.path_)), handle_(std::exchange(other.handle_, -1)), size_(other.size_),
      modified_(other.modified_), mapping_(std::exchange(other.mapping_, nullptr)) {}

MappedFile::~MappedFile() {
    if (mapping_) UnmapViewOfFile(mapping_);
    close();
}

void MappedFile::close() {
    if (handle_ != -1) CloseHandle(handle_of(std::exchange(handle_, -1)));
}

bool MappedFile::unchanged() const {
    size_t size = 0;
    int64_t modified = 0;
    return describe(handle_, size, modified) && size == size_ && modified == modified_;
}

char * MappedFile::map() {
    if (!mapping_) {
        if (HANDLE section = CreateFileMappingW(handle_of(handle_), nullptr, PAGE_READONLY, 0, 0, nullptr)) {
            mapping_ = MapViewOfFile(section, FILE_MAP_READ, 0, 0, 0);
            const DWORD error = GetLastError();
            CloseHandle(section);  // the view keeps it
            SetLastError(error);
        }
        if (!mapping_) throw Error("FLUX_OUT_OF_MEMORY", path_ + " cannot be mapped into memory: " + last_error());
    }
    return static_cast<char *>(mapping_);
}

void MappedFile::read(size_t offset, char * into, size_t count) const {
    while (count > 0) {
        OVERLAPPED place = {};  // a place of its own for each call, so that several threads may read
        place.Offset = static_cast<DWORD>(offset);
        place.OffsetHigh = static_cast<DWORD>(offset >> 32);
        const DWORD piece = static_cast<DWORD>(std::min(count, size_t{1} << 30));
        DWORD got = 0;
        if (!ReadFile(handle_of(handle_), into, piece, &got, &place) || got == 0)
            throw Error("FLUX_BAD_FILE", path_ + " ended or failed while it was read; was it changed meanwhile?");
        into += got;
        offset += got;
        count -= got;
    }
}

// Large pages need a privilege that users do not have.
void use_huge_pages(char *, size_t) {}

bool lock_file(int fd) {
    const HANDLE handle = uv_get_osfhandle(fd);
    OVERLAPPED first_byte = {};
    if (LockFileEx(handle, LOCKFILE_EXCLUSIVE_LOCK | LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &first_byte)) return true;
    switch (GetLastError()) {
        case ERROR_LOCK_VIOLATION:
        case ERROR_IO_PENDING: return false;
        case ERROR_NOT_SUPPORTED:  // some network drives
        case ERROR_INVALID_FUNCTION: return true;
        default: throw Error("FLUX_BAD_FILE", "a file cannot be locked: " + last_error());
    }
}

// ---- threads ----

void Thread::start(Result (*run)(void *), void * argument) {
    // suspended until `handle_` is set, which the thread reads if it detaches itself
    handle_ = _beginthreadex(nullptr, static_cast<unsigned>(stack_size), run, argument,
                             CREATE_SUSPENDED | STACK_SIZE_PARAM_IS_A_RESERVATION, nullptr);
    if (handle_ == 0) throw std::system_error(errno, std::generic_category());
    ResumeThread(reinterpret_cast<HANDLE>(handle_));
}

void Thread::join() {
    const auto thread = reinterpret_cast<HANDLE>(handle_);
    WaitForSingleObject(thread, INFINITE);
    CloseHandle(thread);
}

void Thread::detach() { CloseHandle(reinterpret_cast<HANDLE>(handle_)); }

}  // namespace ggflux
