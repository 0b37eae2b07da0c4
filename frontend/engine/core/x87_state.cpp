/// x87: control and status, environments, FXSAVE and FXRSTOR, MXCSR; the entry of x87.
#include "fpu.h"
#include "x87.h"

namespace {

constexpr u32 kMxcsrMask = 0xffff;
constexpr u16 kControlBits = 0x1f7f, kControlAlways = 0x40;

void set_control(Cpu& cpu, u16 value) {
  cpu.fpu_control = static_cast<u16>((value & kControlBits) | kControlAlways);
}
/// Exceptions that are noted and no longer masked wait; masked ones do not.
void summarise(Cpu& cpu) {
  cpu.fpu_status &= static_cast<u16>(~(ERROR_SUMMARY | BUSY));
  if (cpu.fpu_status & ~cpu.fpu_control & 0x3f) cpu.fpu_status |= ERROR_SUMMARY | BUSY;
}

/// FNINIT's state; the registers stay.
void initialise(Cpu& cpu) {
  cpu.fpu_control = 0x37f;
  cpu.fpu_status = 0;
  cpu.fpu_tags = 0;
  cpu.fpu_opcode = 0;
  cpu.fpu_ip = cpu.fpu_dp = 0;
}

bool fninit(Cpu& cpu, const Insn&) {
  initialise(cpu);
  return true;
}
bool fnclex(Cpu& cpu, const Insn&) {
  cpu.fpu_status &= 0x7f00;
  return true;
}
bool wait(Cpu& cpu, const Insn&) { return no_pending_fpu_error(cpu); }
bool fldcw(Cpu& cpu, const Insn& insn) {
  u16 value;
  if (!no_pending_fpu_error(cpu) || !fetch(effective_address(cpu, insn), value)) return false;
  set_control(cpu, value);
  summarise(cpu);
  return true;
}
bool fnstcw(Cpu& cpu, const Insn& insn) { return put(effective_address(cpu, insn), cpu.fpu_control); }
bool fnstsw(Cpu& cpu, const Insn& insn) { return write_operand(cpu, insn, insn.operands[0], cpu.fpu_status); }

template <i32 by>
bool rotate(Cpu& cpu, const Insn&) {
  Fpu fpu(cpu);
  if (!no_pending_fpu_error(cpu)) return false;
  fpu.clear_c1();
  fpu.set_top(fpu.top() + static_cast<u32>(by));
  return true;
}
template <bool pops>
bool ffree(Cpu& cpu, const Insn& insn) {
  Fpu fpu(cpu);
  if (!no_pending_fpu_error(cpu)) return false;
  fpu.clear_c1();
  fpu.free(insn.operands[0].reg);
  if (pops) fpu.pop();
  return true;
}

/// Two bits for each register: valid, zero, special, empty.
u16 full_tags(const Cpu& cpu) {
  u32 tags = 0;
  for (u32 i = 0; i < 8; i++) {
    u32 tag = 3;
    if (cpu.fpu_tags >> i & 1) {
      const Class80 c = class_of(cpu.st[i]);
      tag = c == Class80::Normal ? 0 : c == Class80::Zero ? 1 : 2;
    }
    tags |= tag << 2 * i;
  }
  return static_cast<u16>(tags);
}
u8 abridged_tags(u16 tags) {
  u8 result = 0;
  for (u32 i = 0; i < 8; i++)
    if ((tags >> 2 * i & 3) != 3) result |= static_cast<u8>(1u << i);
  return result;
}

constexpr u32 kEnvironment = 28, kRegisters = 80;

/// FSTENV's area: seven fields, of 4 bytes each, or 2 with an operand size of 16 bits. Returns its size.
u32 make_environment(const Cpu& cpu, bool small, u8* area) {
  const u32 fields[7] = {
    cpu.fpu_control, cpu.fpu_status, full_tags(cpu), static_cast<u32>(cpu.fpu_ip), u32{cpu.fpu_opcode} << 16, static_cast<u32>(cpu.fpu_dp), 0,
  };
  for (u32 i = 0; i < 7; i++) {
    const bool upper_ones = i < 3 || i == 6;
    if (small) poke<u16>(area + 2 * i, static_cast<u16>(fields[i]));
    else poke<u32>(area + 4 * i, fields[i] | (upper_ones ? 0xffff0000u : 0));
  }
  return small ? kEnvironment / 2 : kEnvironment;
}
void take_environment(Cpu& cpu, bool small, const u8* area) {
  const auto field = [&](u32 i) { return small ? peek<u16>(area + 2 * i) : peek<u32>(area + 4 * i); };
  set_control(cpu, static_cast<u16>(field(0)));
  cpu.fpu_status = static_cast<u16>(field(1));
  cpu.fpu_tags = abridged_tags(static_cast<u16>(field(2)));
  cpu.fpu_ip = field(3);
  cpu.fpu_dp = field(5);
  if (!small) cpu.fpu_opcode = static_cast<u16>(field(4) >> 16 & 0x7ff);
  summarise(cpu);
}

bool fnstenv(Cpu& cpu, const Insn& insn) {
  u8 area[kEnvironment];
  const u32 size = make_environment(cpu, insn.operand_size == 2, area);
  if (!store(cpu, effective_address(cpu, insn), area, size)) return false;
  cpu.fpu_control |= 0x3f;
  summarise(cpu);
  return true;
}
bool fldenv(Cpu& cpu, const Insn& insn) {
  u8 area[kEnvironment];
  const bool small = insn.operand_size == 2;
  if (!no_pending_fpu_error(cpu) || !load(cpu, effective_address(cpu, insn), area, small ? kEnvironment / 2 : kEnvironment)) return false;
  take_environment(cpu, small, area);
  return true;
}
bool fnsave(Cpu& cpu, const Insn& insn) {
  u8 area[kEnvironment + kRegisters];
  const u32 size = make_environment(cpu, insn.operand_size == 2, area);
  Fpu fpu(cpu);
  for (u32 i = 0; i < 8; i++) {
    poke<u64>(area + size + 10 * i, fpu.st(i).significand);
    poke<u16>(area + size + 10 * i + 8, fpu.st(i).sign_exponent);
  }
  if (!store(cpu, effective_address(cpu, insn), area, size + kRegisters)) return false;
  initialise(cpu);
  return true;
}
bool frstor(Cpu& cpu, const Insn& insn) {
  u8 area[kEnvironment + kRegisters];
  const bool small = insn.operand_size == 2;
  const u32 size = small ? kEnvironment / 2 : kEnvironment;
  if (!no_pending_fpu_error(cpu) || !load(cpu, effective_address(cpu, insn), area, size + kRegisters)) return false;
  take_environment(cpu, small, area);
  Fpu fpu(cpu);
  for (u32 i = 0; i < 8; i++) {
    fpu.st(i).significand = peek<u64>(area + size + 10 * i);
    fpu.st(i).sign_exponent = peek<u16>(area + size + 10 * i + 8);
  }
  return true;
}

bool fxsave(Cpu& cpu, const Insn& insn) {
  const u64 address = effective_address(cpu, insn);
  if (address & 15) return raise(cpu, EXIT_GENERAL_PROTECTION);
  u8 area[kFxsaveSize];
  save_fpu(cpu, area);
  return can_store(cpu, address, kFxsaveSize) && store(cpu, address, area, 416);
}
bool fxrstor(Cpu& cpu, const Insn& insn) {
  const u64 address = effective_address(cpu, insn);
  if (address & 15) return raise(cpu, EXIT_GENERAL_PROTECTION);
  u8 area[kFxsaveSize];
  if (!load(cpu, address, area, kFxsaveSize)) return false;
  return load_fpu(cpu, area) || raise(cpu, EXIT_GENERAL_PROTECTION);
}
bool ldmxcsr(Cpu& cpu, const Insn& insn) {
  u32 value;
  if (!fetch(effective_address(cpu, insn), value)) return false;
  if (value & ~kMxcsrMask) return raise(cpu, EXIT_GENERAL_PROTECTION);
  cpu.mxcsr = value;
  return true;
}
bool stmxcsr(Cpu& cpu, const Insn& insn) { return put(effective_address(cpu, insn), cpu.mxcsr); }

}  // namespace

void save_fpu(const Cpu& cpu, u8* area) {
  __builtin_memset(area, 0, 160);
  poke<u16>(area, cpu.fpu_control);
  poke<u16>(area + 2, cpu.fpu_status);
  area[4] = cpu.fpu_tags;
  poke<u16>(area + 6, cpu.fpu_opcode);
  poke<u64>(area + 8, cpu.fpu_ip);
  poke<u64>(area + 16, cpu.fpu_dp);
  poke<u32>(area + 24, cpu.mxcsr);
  poke<u32>(area + 28, kMxcsrMask);
  for (u32 i = 0; i < 8; i++) {
    const Float80& value = cpu.st[((cpu.fpu_status >> 11) + i) & 7];
    poke<u64>(area + 32 + 16 * i, value.significand);
    poke<u16>(area + 40 + 16 * i, value.sign_exponent);
  }
  __builtin_memcpy(area + 160, cpu.xmm, 256);
}

bool load_fpu(Cpu& cpu, const u8* area) {
  const u32 mxcsr = peek<u32>(area + 24);
  if (mxcsr & ~kMxcsrMask) return false;
  cpu.mxcsr = mxcsr;
  set_control(cpu, peek<u16>(area));
  cpu.fpu_status = peek<u16>(area + 2);
  cpu.fpu_tags = area[4];
  cpu.fpu_opcode = peek<u16>(area + 6) & 0x7ff;
  cpu.fpu_ip = peek<u64>(area + 8);
  cpu.fpu_dp = peek<u64>(area + 16);
  summarise(cpu);
  for (u32 i = 0; i < 8; i++) {
    Float80& value = cpu.st[((cpu.fpu_status >> 11) + i) & 7];
    value.significand = peek<u64>(area + 32 + 16 * i);
    value.sign_exponent = peek<u16>(area + 40 + 16 * i);
  }
  __builtin_memcpy(cpu.xmm, area + 160, 256);
  return true;
}

Handler x87_state_handler(const Insn& insn) {
  switch (insn.mnemonic) {
    case Mnemonic::Fninit: return fninit;
    case Mnemonic::Fnclex: return fnclex;
    case Mnemonic::Fnop:
    case Mnemonic::Fwait: return wait;
    case Mnemonic::Fldcw: return fldcw;
    case Mnemonic::Fnstcw: return fnstcw;
    case Mnemonic::Fnstsw: return fnstsw;
    case Mnemonic::Fincstp: return rotate<1>;
    case Mnemonic::Fdecstp: return rotate<-1>;
    case Mnemonic::Ffree: return ffree<false>;
    case Mnemonic::Ffreep: return ffree<true>;
    case Mnemonic::Fldenv: return fldenv;
    case Mnemonic::Fnstenv: return fnstenv;
    case Mnemonic::Fnsave: return fnsave;
    case Mnemonic::Frstor: return frstor;
    case Mnemonic::Fxsave: return fxsave;
    case Mnemonic::Fxrstor: return fxrstor;
    case Mnemonic::Ldmxcsr: return ldmxcsr;
    case Mnemonic::Stmxcsr: return stmxcsr;
    default: return nullptr;
  }
}

Handler x87_handler(const Insn& insn) {
  constexpr Handler (*groups[])(const Insn&) = {x87_move_handler, x87_arithmetic_handler, x87_compare_handler, x87_state_handler, x87_function_handler};
  for (const auto group : groups)
    if (const Handler handler = group(insn)) return handler;
  return nullptr;
}
