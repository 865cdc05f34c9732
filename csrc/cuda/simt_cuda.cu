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

}  // namespace ptqsr::cuda
