// What every entry point returns: a code, and one line for the reader when it is not ok.
#pragma once

#include <cstdarg>
#include <cstdio>

namespace ptqsr {

enum class Code { kOk = 0, kInvalidArgument, kOutOfMemory, kUnsupported, kDeviceError };

struct Status {
  Code code = Code::kOk;
  char message[240] = {};

  bool ok() const { return code == Code::kOk; }
};

// printf-style; the message is cut at its buffer's end.
[[gnu::format(printf, 2, 3)]] inline Status make_error(Code code, const char* format, ...) {
  Status status;
  status.code = code;
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(status.message, sizeof(status.message), format, arguments);
  va_end(arguments);
  return status;
}

}  // namespace ptqsr
