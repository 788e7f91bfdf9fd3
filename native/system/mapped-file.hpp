#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace ggflux {

// An open file that is read in pieces or mapped into memory. Several threads may read at once.
class MappedFile {
  public:
    // `path` is UTF-8
    explicit MappedFile(const std::string & path);
    MappedFile(MappedFile && other) noexcept;
    ~MappedFile();

    const std::string & path() const { return path_; }
    size_t size() const { return size_; }
    bool mapped() const { return mapping_; }

    char * map();
    void read(size_t offset, char * into, size_t count) const;
    void close();

    // whether size and modification time are the same as when the file was opened
    bool unchanged() const;

  private:
    MappedFile() = default;

    std::string path_;
    intptr_t handle_ = -1;  // a descriptor, on Windows a HANDLE
    size_t size_ = 0;
    int64_t modified_ = 0;  // in the system's own unit
    void * mapping_ = nullptr;
};

// For gigabytes of memory that will be written soon. With 4 KiB pages, page faults alone take longer than repacking. It
// has no effect on systems without huge pages.
void use_huge_pages(char * address, size_t size);

}  // namespace ggflux
