#include <new>
#include <stdexcept>

#include "bindings/bindings.h"

namespace ptqsr::bindings {

void check(Status status, const char* operation) {
  if (status == Status::out_of_memory) throw std::bad_alloc();
  if (status != Status::ok) {
    throw std::invalid_argument(std::string(operation) + ": " + message(status));
  }
}

}  // namespace ptqsr::bindings
