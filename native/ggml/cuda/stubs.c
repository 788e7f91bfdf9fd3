// The symbols of libcublas.so.13 and libcuda.so.1 that the linker needs. These stubs are never loaded: at run time both
// libraries come from NVIDIA's driver and runtime.
#define STUB(name)                                                                                                     \
    int name(void) { return 15; }

#ifdef GGFLUX_STUB_CUDA
STUB(cuDeviceGet)
STUB(cuDeviceGetAttribute)
STUB(cuGetErrorString)
STUB(cuMemAddressFree)
STUB(cuMemAddressReserve)
STUB(cuMemCreate)
STUB(cuMemGetAllocationGranularity)
STUB(cuMemMap)
STUB(cuMemRelease)
STUB(cuMemSetAccess)
STUB(cuMemUnmap)
#else
STUB(cublasCreate_v2)
STUB(cublasDestroy_v2)
STUB(cublasSetStream_v2)
STUB(cublasSetWorkspace_v2)
STUB(cublasSetMathMode)
STUB(cublasGetStatusString)
STUB(cublasSgemm_v2)
STUB(cublasSgemmBatched)
STUB(cublasSgemmStridedBatched)
STUB(cublasGemmEx)
STUB(cublasGemmBatchedEx)
STUB(cublasGemmStridedBatchedEx)
STUB(cublasStrsmBatched)
#endif
