#pragma once

namespace ggflux {

// Locks an open file until it is closed, without waiting. Returns false if another process, or another descriptor of
// the file, holds the lock. Always returns true on file systems without locks.
bool lock_file(int fd);

}  // namespace ggflux
