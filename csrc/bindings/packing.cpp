#include "ptqsr/packing.h"

#include "bindings/bindings.h"

namespace ptqsr::bindings {
namespace {

void pack_codes(std::uintptr_t codes, std::uintptr_t packed, int64_t rows, int64_t count, int bits,
                int threads) {
  Status status;
  {
    py::gil_scoped_release release;
    status = ptqsr::pack_codes(pointer<const uint8_t>(codes), rows, count, bits,
                               pointer<uint8_t>(packed), threads);
  }
  check(status, "pack_codes");
}

void unpack_codes(std::uintptr_t packed, std::uintptr_t codes, int64_t rows, int64_t count,
                  int bits, int threads) {
  Status status;
  {
    py::gil_scoped_release release;
    status = ptqsr::unpack_codes(pointer<const uint8_t>(packed), rows, count, bits,
                                 pointer<uint8_t>(codes), threads);
  }
  check(status, "unpack_codes");
}

}  // namespace

void bind_packing(py::module_& m) {
  m.def("pack_codes", &pack_codes);
  m.def("unpack_codes", &unpack_codes);
}

}  // namespace ptqsr::bindings
