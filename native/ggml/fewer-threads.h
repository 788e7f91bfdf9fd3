// Forced into ggml-cpu/ggml-cpu.c by native/ggml/ggml.cmake, except on Windows.
//
// ggml creates the threads of each evaluation anew. It aborts the process if the system refuses to create one
// (ulimit -u, a container's process limit). The only call of pthread_create in that file is in a loop over `j` from 1
// to `tpp->n_threads`. A refusal ends this loop, and the pool then has the threads that were created. The rest of ggml
// reads the number of threads from the pool.
#pragma once

#include <pthread.h>

#define pthread_create(thread, attributes, run, state)                                                                 \
    ((pthread_create) (thread, attributes, run, state) == 0 ? 0 : (tpp->n_threads = threadpool->n_threads = j, 0))
