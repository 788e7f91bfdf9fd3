// Forced into ggml-cpu/ggml-cpu.c by native/ggml/ggml.cmake, for x86-64.
//
// ggml's threads wait for each other by spinning on _mm_pause(), thousands of times in one evaluation. On a busy
// machine, a spinning thread can keep the thread that it waits for off the processor until its time slice ends. After
// some spinning, this version yields. If no other thread is waiting, that occasionally costs a microsecond.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#ifdef _WIN32
#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <windows.h>
#define ggflux_yield SwitchToThread
#else
#include <sched.h>
#define ggflux_yield sched_yield
#endif

static inline void ggflux_cpu_relax(void) {
    static __thread unsigned spins = 0;
    _mm_pause();
    if (++spins % 512 == 0) ggflux_yield();
}

#define _mm_pause ggflux_cpu_relax
#endif

// mingw-w64 before 11 lacks these, which ggml-cpu.c uses on Windows 8 and newer.
#if defined(__MINGW32__) && !defined(THREAD_POWER_THROTTLING_CURRENT_VERSION)
#define THREAD_POWER_THROTTLING_CURRENT_VERSION 1
#define THREAD_POWER_THROTTLING_EXECUTION_SPEED 1
typedef struct {
    ULONG Version, ControlMask, StateMask;
} THREAD_POWER_THROTTLING_STATE;
#endif
