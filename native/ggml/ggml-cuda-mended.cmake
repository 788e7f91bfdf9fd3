# ggml's CUDA module with three changes. First, cuBLAS multiplies in bfloat16 with F32 sums, because F16 sums overflow in
# T5, and in F32 without TF32 where the graph asks for it. Second, sequences of elementwise operations become one kernel
# (native/ggml/cuda/fusions.cuh). Third, some single operations have our own kernels (operations.cuh). GGFLUX_KERNELS=ggml
# turns the second and the third off.
include(native/ggml/mend.cmake)
mend_begin(ggml-cuda ggml-cuda.cu)
mend("template<ggml_type compute_type>
static void ggml_cuda_mul_mat_cublas_impl(" "#include \"${CMAKE_CURRENT_SOURCE_DIR}/native/blocks/exact.hpp\"

template<ggml_type compute_type>
static void ggml_cuda_mul_mat_cublas_impl(")
mend("    if (bad_padding_clear || src1->type" "    if (ggflux::is_exact(dst) || bad_padding_clear || src1->type")
mend("static bool ggml_cuda_compute_forward(ggml_backend_cuda_context & ctx, struct ggml_tensor * dst) {
" "#include \"${CMAKE_CURRENT_SOURCE_DIR}/native/ggml/cuda/fusions.cuh\"
#include \"${CMAKE_CURRENT_SOURCE_DIR}/native/ggml/cuda/operations.cuh\"

static bool ggml_cuda_compute_forward(ggml_backend_cuda_context & ctx, struct ggml_tensor * dst) {
    if (ggflux::enabled() && ggflux::compute(ctx, dst)) {
        return true;
    }
")
mend("    ggml_tensor * node = cgraph->nodes[i];

    if (node->op == GGML_OP_MUL) {
        ggml_cuda_moe_weighted_reduction_match match;" "    if (const int done = ggflux::enabled() ? ggflux::fuse(*cuda_ctx, cgraph, i) : 0) {
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
mend("    switch (compute_type) {
        case GGML_TYPE_F32:
            ggml_cuda_mul_mat_cublas_impl<GGML_TYPE_F32>(ctx, src0, src1, dst);
            break;" "    if (ggflux::is_exact(dst)) {
        CUBLAS_CHECK(cublasSetMathMode(ctx.cublas_handle(), CUBLAS_DEFAULT_MATH));
        ggml_cuda_mul_mat_cublas_impl<GGML_TYPE_F32>(ctx, src0, src1, dst);
        CUBLAS_CHECK(cublasSetMathMode(ctx.cublas_handle(), CUBLAS_TF32_TENSOR_OP_MATH));
        return;
    }

    switch (compute_type) {
        case GGML_TYPE_F32:
            ggml_cuda_mul_mat_cublas_impl<GGML_TYPE_F32>(ctx, src0, src1, dst);
            break;")
mend_end()
