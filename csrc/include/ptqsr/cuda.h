// Which CUDA devices there are, and whether this build can run on them. Nothing here throws.
#pragma once

#include <cstddef>

#include "ptqsr/status.h"

namespace ptqsr::cuda {

struct Device {
  char name[256] = {};
  int compute_major = 0;
  int compute_minor = 0;
  size_t memory_bytes = 0;
};

inline constexpr int kMaxDevices = 64;

// Versions as CUDA counts them: 1000 * major + 10 * minor; 0 = none.
struct Report {
  int runtime_version = 0;         // the runtime linked into this library
  int driver_version = 0;          // newest CUDA version that the installed driver runs
  int minimum_driver_version = 0;  // oldest that can run this build
  int device_count = 0;            // 0 unless usable
  Device devices[kMaxDevices];
  char problem[240] = {};  // why no device can be used; empty where one can
};

// Reads versions and properties. Creates no context and launches nothing.
void query(Report* report);

// Runs one thread on `device` and stores the __CUDA_ARCH__ of the code that really ran (e.g. 750).
Status probe_arch(int device, int* arch);

}  // namespace ptqsr::cuda
