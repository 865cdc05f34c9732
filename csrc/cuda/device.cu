#include <cuda_runtime.h>

#include "ptqsr/device.h"

namespace ptqsr::cuda {
namespace {

// Says which of the architectures in this build the driver picked for the device.
__global__ void report_architecture(int* architecture) {
#ifdef __CUDA_ARCH__
  *architecture = __CUDA_ARCH__;
#endif
}

int architecture_of_current_device() {
  int* on_device = nullptr;
  int architecture = 0;
  if (cudaMalloc(&on_device, sizeof(int)) != cudaSuccess) return 0;
  report_architecture<<<1, 1>>>(on_device);
  const bool ran =
      cudaGetLastError() == cudaSuccess &&
      cudaMemcpy(&architecture, on_device, sizeof(int), cudaMemcpyDeviceToHost) == cudaSuccess;
  cudaFree(on_device);
  return ran ? architecture : 0;
}

std::string version(int number) {
  return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10);
}

}  // namespace

std::string driver_problem() {
  int driver = 0;
  cudaDriverGetVersion(&driver);
  if (driver == 0) return "no NVIDIA driver";
  // Within a major version an older driver serves newer builds; across major versions none does.
  if (driver / 1000 >= CUDART_VERSION / 1000) return "";
  return "the driver serves CUDA " + version(driver) + ", older than this build's " +
         version(CUDART_VERSION) + ": update the driver, or build with an older CUDA toolkit";
}

Query query() {
  Query result{CUDART_VERSION, 0, driver_problem(), {}};
  cudaDriverGetVersion(&result.driver);
  if (!result.problem.empty()) return result;
  int count = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess) {
    result.problem = cudaGetErrorString(error);
    cudaGetLastError();
    return result;
  }
  int current = 0;
  cudaGetDevice(&current);
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp properties;
    if (cudaGetDeviceProperties(&properties, i) != cudaSuccess) continue;
    cudaSetDevice(i);
    result.devices.push_back({properties.name, properties.major, properties.minor,
                              static_cast<int64_t>(properties.totalGlobalMem),
                              architecture_of_current_device()});
  }
  cudaSetDevice(current);
  return result;
}

void* new_stream() {
  cudaStream_t stream = nullptr;
  if (cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) != cudaSuccess) {
    cudaGetLastError();
    return nullptr;
  }
  return stream;
}

}  // namespace ptqsr::cuda
