# ggml's CUDA module with two changes. First, cuBLAS multiplies in bfloat16 with F32 sums, because F16 sums overflow in
# T5. Second, with GGFLUX_CUDA_FUSIONS set, sequences of elementwise operations become one kernel
# (native/ggml/cuda/fusions.cuh). That is off by default because it has not run on a GPU yet. scripts/gpu-check.mjs
# compares both.
include(native/ggml/mend.cmake)
mend_begin(ggml-cuda ggml-cuda.cu)
mend("// try and fuse nodes and return the number of nodes to skip
" "#include \"${CMAKE_CURRENT_SOURCE_DIR}/native/ggml/cuda/fusions.cuh\"

// try and fuse nodes and return the number of nodes to skip
")
mend("    ggml_tensor * node = cgraph->nodes[i];

    if (node->op == GGML_OP_MUL) {
        ggml_cuda_moe_weighted_reduction_match match;" "    static const bool fusions = getenv(\"GGFLUX_CUDA_FUSIONS\") != nullptr;
    if (const int done = fusions ? ggflux::fuse(*cuda_ctx, cgraph, i) : 0) {
        return done;
    }

    ggml_tensor * node = cgraph->nodes[i];

    if (node->op == GGML_OP_MUL) {
        ggml_cuda_moe_weighted_reduction_match match;")
mend("        compute_type = fast_fp16_hardware_available(cc) ? GGML_TYPE_F16 : GGML_TYPE_F32;
    } else if" "        compute_type = fast_bf16_hardware_available(cc) ? GGML_TYPE_BF16 : GGML_TYPE_F32;
    } else if (compute_type == GGML_TYPE_F16 && fast_bf16_hardware_available(cc)) {
        compute_type = GGML_TYPE_BF16;
    } else if")
mend_end()
