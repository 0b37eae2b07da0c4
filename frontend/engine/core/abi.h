/// What the core and Linux agree on: the state of a processor, page bits, the reasons to leave `run`. Mirrored in linux/abi.ts (a test compares).
#pragma once
#include <stddef.h>
#include <stdint.h>

using u8 = uint8_t;
using u16 = uint16_t;
using u32 = uint32_t;
using u64 = uint64_t;
using i8 = int8_t;
using i16 = int16_t;
using i32 = int32_t;
using i64 = int64_t;
using u128 = unsigned __int128;
using i128 = __int128;

/// Where guest address 0 lies in the wasm memory; below it is the core's own.
constexpr u32 kGuestBase = 32u << 20;
/// Guest addresses are below this.
constexpr u64 kGuestEnd = (u64{1} << 32) - kGuestBase;
constexpr u32 kPageShift = 12;
constexpr u32 kPageSize = 1u << kPageShift;

enum PageBits : u8 {
  PAGE_READ = 1,
  PAGE_WRITE = 2,      // stores need nothing noted: writable, dirty, no code. Set by the core only
  PAGE_EXEC = 4,
  PAGE_WRITABLE = 8,   // what Linux gives
  PAGE_CODE = 16,      // blocks were decoded from it
  PAGE_DIRTY = 32,     // written since Linux cleared it
};

enum Exit : u32 {
  EXIT_NONE = 0,
  EXIT_BUDGET = 1,
  EXIT_SYSCALL = 2,
  EXIT_PAGE_FAULT = 3,          // exit_address, exit_access (PAGE_READ, PAGE_WRITABLE or PAGE_EXEC)
  EXIT_INVALID_OPCODE = 4,      // #UD
  EXIT_DIVIDE_ERROR = 5,        // #DE
  EXIT_BREAKPOINT = 6,          // INT3; rip is behind it
  EXIT_GENERAL_PROTECTION = 7,  // #GP: privileged, non-canonical address, misaligned SSE operand
  EXIT_FPU_ERROR = 8,           // #MF: unmasked x87 exception
  EXIT_SIMD_ERROR = 9,          // #XM
  EXIT_TRAP = 10,               // #DB: TF or INT1; rip is behind the instruction
  EXIT_INT80 = 11,              // INT 0x80; rip is behind it
  EXIT_UNIMPLEMENTED = 12,      // in the table, no handler; exit_address is its mnemonic
  EXIT_INTERNAL = 13,           // the core found itself inconsistent
  EXIT_STACK_FAULT = 14,        // #SS: non-canonical address in the stack segment
};

enum Flags : u32 {
  FLAG_C = 1u << 0,
  FLAG_P = 1u << 2,
  FLAG_A = 1u << 4,
  FLAG_Z = 1u << 6,
  FLAG_S = 1u << 7,
  FLAG_T = 1u << 8,
  FLAG_I = 1u << 9,   // always set in user mode
  FLAG_D = 1u << 10,
  FLAG_O = 1u << 11,
  FLAG_AC = 1u << 18,
  FLAG_ID = 1u << 21,
};
constexpr u32 kArithmeticFlags = FLAG_C | FLAG_P | FLAG_A | FLAG_Z | FLAG_S | FLAG_O;

union alignas(16) Xmm {
  u8 b[16];
  u16 w[8];
  u32 d[4];
  u64 q[2];
  i8 sb[16];
  i16 sw[8];
  i32 sd[4];
  i64 sq[2];
  float f[4];
  double g[2];
};

/// An x87 register as in memory: 64 bits of significand, sign and 15 bits of exponent; MMX registers alias `significand`.
struct alignas(16) Float80 {
  u64 significand;
  u16 sign_exponent;
};

/// A processor: what a thread is. Plain data; offsets are part of the ABI and of saved machines.
struct alignas(16) Cpu {
  u64 gpr[16];        // 0    rax rcx rdx rbx rsp rbp rsi rdi r8..r15
  u64 rip;            // 128
  u64 rflags;         // 136  whole on every exit
  u64 fs_base;        // 144
  u64 gs_base;        // 152
  Xmm xmm[16];        // 160
  Float80 st[8];      // 416  physical registers R0..R7, not the stack order
  u16 fpu_control;    // 544
  u16 fpu_status;     // 546  top of stack in bits 11..13
  u8 fpu_tags;        // 548  abridged: bit i set when R_i is in use
  u8 reserved;
  u16 fpu_opcode;     // 550
  u64 fpu_ip;         // 552
  u64 fpu_dp;         // 560
  u32 mxcsr;          // 568
  u32 exit_reason;    // 572
  u64 exit_address;   // 576
  u32 exit_access;    // 584
  u32 reserved2;
  u64 instructions;   // 592  executed by this thread
  u16 selectors[4];   // 600  es, ds, fs, gs; cs and ss are always Linux's
};
static_assert(offsetof(Cpu, rip) == 128 && offsetof(Cpu, xmm) == 160 && offsetof(Cpu, st) == 416);
static_assert(offsetof(Cpu, mxcsr) == 568 && offsetof(Cpu, instructions) == 592 && sizeof(Cpu) == 608);
