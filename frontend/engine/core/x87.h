/// What the x87 instructions share: the stack, the status word, exceptions.
#pragma once
#include "float80.h"
#include "simd.h"

enum FpuStatus : u16 {
  STACK_FAULT = 0x40,
  ERROR_SUMMARY = 0x80,
  C0 = 0x100,
  C1 = 0x200,
  C2 = 0x400,
  C3 = 0x4000,
  BUSY = 0x8000,
};
constexpr u8 kBeforeExceptions = INVALID_OPERATION | DENORMAL_OPERAND | DIVIDE_BY_ZERO;

struct Fpu {
  Cpu& cpu;

  explicit Fpu(Cpu& of) : cpu(of) {}

  u32 top() const { return cpu.fpu_status >> 11 & 7; }
  void set_top(u32 value) { cpu.fpu_status = static_cast<u16>((cpu.fpu_status & ~0x3800) | (value & 7) << 11); }
  u32 number(u32 i) const { return (top() + i) & 7; }
  Float80& st(u32 i) { return cpu.st[number(i)]; }
  bool empty(u32 i) const { return !(cpu.fpu_tags >> number(i) & 1); }
  void set(u32 i, const Float80& value) {
    // field by field: the padding is nobody's
    st(i).significand = value.significand;
    st(i).sign_exponent = value.sign_exponent;
    cpu.fpu_tags |= static_cast<u8>(1u << number(i));
  }
  void free(u32 i) { cpu.fpu_tags &= static_cast<u8>(~(1u << number(i))); }
  void pop() {
    free(0);
    set_top(top() + 1);
  }
  void push(const Float80& value) {
    set_top(top() - 1);
    set(0, value);
  }

  void set_codes(u16 mask, u16 value) { cpu.fpu_status = static_cast<u16>((cpu.fpu_status & ~mask) | value); }
  void clear_c1() { set_codes(C1, 0); }

  /// Notes exceptions. False: one that comes before the result is not masked; nothing may be stored.
  bool note(u8 exceptions, bool up = false) {
    const u8 unmasked = static_cast<u8>(~cpu.fpu_control & 0x3f);
    const bool stop = exceptions & unmasked & kBeforeExceptions;
    if (stop) exceptions &= kBeforeExceptions, up = false;
    cpu.fpu_status |= exceptions;
    if (exceptions & unmasked) cpu.fpu_status |= ERROR_SUMMARY | BUSY;
    set_codes(C1, up ? C1 : 0);
    return !stop;
  }
  bool note(const FloatState& state) { return note(state.exceptions, state.up); }
  /// An empty register was read, or a full one is to be pushed on. True: masked; the result is the default NaN.
  bool stack_fault(bool overflow) {
    const bool go_on = note(INVALID_OPERATION, false);
    cpu.fpu_status |= STACK_FAULT;
    set_codes(C1, overflow ? C1 : 0);
    return go_on;
  }
  bool full() const { return cpu.fpu_tags >> ((top() - 1) & 7) & 1; }
};

/// Pushes; a stack overflow pushes the default NaN.
inline bool push_checked(Fpu& fpu, const Float80& value) {
  if (fpu.full()) {
    if (fpu.stack_fault(true)) fpu.push(default_nan80());
  } else {
    fpu.push(value);
  }
  return true;
}

/// The parts that x87_handler is made of; nullptr: not theirs.
Handler x87_arithmetic_handler(const Insn&);
Handler x87_move_handler(const Insn&);
Handler x87_compare_handler(const Insn&);
Handler x87_function_handler(const Insn&);
Handler x87_state_handler(const Insn&);
