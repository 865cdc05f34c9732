#pragma once

namespace ptqsr {

// What a kernel returns; the bindings turn everything but `ok` into a Python exception.
enum class Status {
  ok,
  points_not_ascending,
  points_out_of_range,
  levels_out_of_range,
  code_out_of_range,
  out_of_memory,
  isa_not_available,
  too_large,
  not_taken,
  device_failed,  // cuda::last_error() says why
};

constexpr const char* message(Status status) {
  switch (status) {
    case Status::ok:
      return "ok";
    case Status::points_not_ascending:
      return "points must ascend strictly in every channel";
    case Status::points_out_of_range:
      return "points must lie in [-denominator, denominator]";
    case Status::levels_out_of_range:
      return "levels of the weights must lie in [-255, 255], those of a kernel within 255 steps";
    case Status::code_out_of_range:
      return "a code is too large: 2^bits, or the number of points, or more";
    case Status::out_of_memory:
      return "out of memory";
    case Status::isa_not_available:
      return "this instruction set was not built or is not on this processor";
    case Status::too_large:
      return "more elements than a GPU kernel takes (2^31 - 1)";
    case Status::not_taken:
      return "no kernel takes this shape";
    case Status::device_failed:
      return "the device failed";
  }
  return "unknown status";
}

}  // namespace ptqsr
