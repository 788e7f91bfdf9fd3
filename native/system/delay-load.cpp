// Windows: finds the functions of Node-API in the program that runs us. A program is node.exe, electron.exe, or one with
// a name of its own, and an ordinary import names a file. So the import library says that node.exe is loaded at the
// first call (delay-loaded), and the linker's stub then calls the function below instead of loading anything.
#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#include <delayimp.h>

#include <cstdio>
#include <cstdlib>
#include <string>

extern "C" IMAGE_DOS_HEADER __ImageBase;

namespace {

template <class T> T * at(size_t offset) {
    return reinterpret_cast<T *>(reinterpret_cast<char *>(&__ImageBase) + offset);
}

// Some programs have Node.js in a library.
FARPROC find(const char * name) {
    for (const wchar_t * module : {static_cast<const wchar_t *>(nullptr), L"node.dll", L"libnode.dll"}) {
        const HMODULE loaded = GetModuleHandleW(module);
        if (const FARPROC function = loaded ? GetProcAddress(loaded, name) : nullptr) return function;
    }
    return nullptr;
}

std::string & missing() {
    static std::string names;
    return names;
}

// In place of a function that the program lacks. It may have been called from C, so it cannot throw.
void refuse() {
    std::fprintf(stderr,
                 "ggflux: this program lacks functions of Node.js that ggflux needs:%s. What to do: use Node.js 20.17 "
                 "or newer, or an Electron that has it.\n",
                 missing().c_str());
    std::fflush(stderr);
    std::_Exit(1);
}

}  // namespace

// Fills the whole table at the first call, which registers the addon. The stubs of binutils do not keep the registers
// of floating-point arguments, so napi_create_double must never go through one.
#ifdef __MINGW32__
extern "C" FARPROC WINAPI __delayLoadHelper2(PCImgDelayDescr table, PImgThunkData called) {
#else
extern "C" FARPROC WINAPI __delayLoadHelper2(PCImgDelayDescr table, FARPROC * called) {
#endif
    const auto * names = at<const IMAGE_THUNK_DATA>(table->rvaINT);
    auto * functions = at<FARPROC>(table->rvaIAT);
    for (size_t i = 0; names[i].u1.AddressOfData != 0; i++) {
        const char * name = at<const IMAGE_IMPORT_BY_NAME>(names[i].u1.AddressOfData)->Name;
        functions[i] = find(name);
        if (functions[i]) continue;
        missing() += std::string(" ") + name;
        functions[i] = reinterpret_cast<FARPROC>(&refuse);
    }
    return *reinterpret_cast<FARPROC *>(called);
}
