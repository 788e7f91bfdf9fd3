// Forced into ggml-cpu/ggml-cpu.c by native/ggml/ggml.cmake, for x86-64.
//
// ggml's threads wait for each other by spinning on _mm_pause(), thousands of times in one evaluation. On a busy
// machine, a spinning thread can keep the thread that it waits for off the processor until its time slice ends. After
// some spinning, this version yields. If no other thread is waiting, that occasionally costs a microsecond.
#pragma once

#if defined(__x86_64__) && !defined(_WIN32)
#include <immintrin.h>
#include <sched.h>

static inline void ggflux_cpu_relax(void) {
    static __thread unsigned spins = 0;
    _mm_pause();
    if (++spins % 512 == 0) sched_yield();
}

#define _mm_pause ggflux_cpu_relax
#endif
