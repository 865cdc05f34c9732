#pragma once

#ifdef __linux__
#include <sys/mman.h>
#endif

#include <cstdint>

namespace ptqsr::cpu {

// Ask for large pages where a buffer is about to be filled for the first time: the C library maps
// buffers of this size anew for every allocation, and a third of the time of a convolution that
// writes one went into faults of 4 KiB pages. Only a hint, which changes no value.
inline void prefer_large_pages(void* buffer, int64_t bytes) {
#ifdef __linux__
  constexpr int64_t kMapped = 32 << 20, kPage = 2 << 20;
  if (bytes < kMapped) return;
  const auto start = (reinterpret_cast<uintptr_t>(buffer) + kPage - 1) / kPage * kPage;
  const auto end = (reinterpret_cast<uintptr_t>(buffer) + bytes) / kPage * kPage;
  madvise(reinterpret_cast<void*>(start), end - start, MADV_HUGEPAGE);
#else
  static_cast<void>(buffer);
  static_cast<void>(bytes);
#endif
}

}  // namespace ptqsr::cpu
