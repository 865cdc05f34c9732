// `count` rounds of 24 independent vpdpbusd on registers: 24 * 128 operations each.
#include <cstdint>

#define DOT(i) "vpdpbusd %%zmm25, %%zmm26, %%zmm" #i "\n"

extern "C" void peak(int64_t count) {
  asm volatile("1:\n" DOT(0) DOT(1) DOT(2) DOT(3) DOT(4) DOT(5) DOT(6) DOT(7) DOT(8) DOT(9) DOT(10)
                   DOT(11) DOT(12) DOT(13) DOT(14) DOT(15) DOT(16) DOT(17) DOT(18) DOT(19) DOT(20)
                       DOT(21) DOT(22) DOT(23) "dec %0\njnz 1b\n"
               : "+r"(count)
               :
               : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",
                 "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm16", "xmm17",
                 "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23");
}
