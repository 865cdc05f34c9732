#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ptqsr::cuda {

struct Device {
  std::string name;
  int major, minor;  // compute capability
  int64_t memory;    // bytes
  int compiled_for;  // __CUDA_ARCH__ of the code that ran on it, 0 if none did
};

struct Query {
  int runtime;          // of the build, as 13000
  int driver;           // newest CUDA version that the driver serves, 0 without a driver
  std::string problem;  // why there are no devices; empty if nothing is wrong
  std::vector<Device> devices;
};

// Never throws and never launches anything on a driver that is too old for this build.
Query query();

// A stream of the device that is current, of nobody else and for good; 0 where there is none.
void* new_stream();

// Why the driver runs nothing of this build; empty where it does. Touches no device.
std::string driver_problem();

}  // namespace ptqsr::cuda
