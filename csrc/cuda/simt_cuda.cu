#include "cuda/simt.h"

namespace ptqsr::cuda {
namespace {

thread_local std::string last_failure;

}  // namespace

Status checked(cudaError_t error) {
  if (error == cudaSuccess) return Status::ok;
  last_failure = cudaGetErrorString(error);
  cudaGetLastError();  // else the next launch would seem to fail
  return Status::device_failed;
}

std::string last_error() { return last_failure; }

Status current_device(Resources* device) {
  int number = 0, major = 0, minor = 0, units = 0, shared = 0;
  cudaError_t error = cudaGetDevice(&number);
  const auto ask = [&](int* value, cudaDeviceAttr what) {
    if (error == cudaSuccess) error = cudaDeviceGetAttribute(value, what, number);
  };
  ask(&major, cudaDevAttrComputeCapabilityMajor);
  ask(&minor, cudaDevAttrComputeCapabilityMinor);
  ask(&units, cudaDevAttrMultiProcessorCount);
  ask(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin);
  *device = {10 * major + minor, units, shared};
  return checked(error);
}

}  // namespace ptqsr::cuda
