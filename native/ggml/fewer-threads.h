// Forced into ggml-cpu/ggml-cpu.c by native/ggml.cmake, but for Windows.
//
// ggml makes the threads of each evaluation anew, and aborts the process where the system refuses one (ulimit -u, a container's limit of
// processes). The only call of pthread_create in that file is in a loop over `j` from 1 to `tpp->n_threads`: a refusal ends it, and the pool
// has the threads that were made. All else in ggml asks the pool how many those are.
#pragma once

#include <pthread.h>

#define pthread_create(thread, attributes, run, state)                                                                 \
    ((pthread_create) (thread, attributes, run, state) == 0 ? 0 : (tpp->n_threads = threadpool->n_threads = j, 0))
