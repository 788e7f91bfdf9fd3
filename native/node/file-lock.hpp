#pragma once

namespace ggflux {

// Takes the lock of an open file without waiting; false where another process, or another opening of the file, has it. It ends when the file
// is closed. File systems that know no locks give it always.
bool lock_file(int fd);

}  // namespace ggflux
