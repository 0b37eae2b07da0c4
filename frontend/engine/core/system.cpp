/// Flags, identification, clocks, hints, descriptors; what user mode may not do.
#include "decoder.h"
#include "decoder_tables.h"
#include "integer.h"
#include "run.h"

namespace {

bool nothing(Cpu&, const Insn&) { return true; }
bool privileged(Cpu& cpu, const Insn&) { return raise(cpu, EXIT_GENERAL_PROTECTION); }
bool undefined(Cpu& cpu, const Insn&) { return raise(cpu, EXIT_INVALID_OPCODE); }

bool cmc(Cpu&, const Insn&) { return change_flags(FLAG_C, flag_carry() ? 0 : FLAG_C), true; }
bool clc(Cpu&, const Insn&) { return change_flags(FLAG_C, 0), true; }
bool stc(Cpu&, const Insn&) { return change_flags(FLAG_C, FLAG_C), true; }
bool cld(Cpu&, const Insn&) { return g.system_flags &= ~FLAG_D, true; }
bool std(Cpu&, const Insn&) { return g.system_flags |= FLAG_D, true; }

constexpr u32 kAhFlags = FLAG_S | FLAG_Z | FLAG_A | FLAG_P | FLAG_C;

bool lahf(Cpu& cpu, const Insn&) {
  cpu.gpr[0] = (cpu.gpr[0] & ~u64{0xff00}) | u64{(arithmetic_flags() & kAhFlags) | 2} << 8;
  return true;
}
bool sahf(Cpu& cpu, const Insn&) { return change_flags(kAhFlags, static_cast<u32>(cpu.gpr[0] >> 8)), true; }

struct Identity {
  u32 eax, ebx, ecx, edx;
};

/// The first characters are in the lowest byte.
constexpr u32 four(const char* text) {
  return static_cast<u8>(text[0]) | static_cast<u32>(static_cast<u8>(text[1])) << 8 | static_cast<u32>(static_cast<u8>(text[2])) << 16 |
         static_cast<u32>(static_cast<u8>(text[3])) << 24;
}
constexpr char kName[49] = "WebVM x86-64-v2 virtual processor               ";

constexpr u32 bits(auto... numbers) { return (... | (1u << numbers)); }
// fpu tsc msr cx8 sep cmov clfsh mmx fxsr sse sse2; sse3 ssse3 cx16 sse4.1 sse4.2 popcnt and that this is a guest
constexpr u32 kFeatures1Edx = bits(0, 4, 5, 8, 11, 15, 19, 23, 24, 25, 26);
constexpr u32 kFeatures1Ecx = bits(0, 9, 13, 19, 20, 23, 31);
// syscall nx rdtscp lm and what the plain leaf has too; lahf, prefetchw
constexpr u32 kFeaturesExtendedEdx = bits(11, 20, 27, 29);
constexpr u32 kFeaturesExtendedEcx = bits(0, 8);
constexpr u32 kSignature = 0x000106e5;  // family 6, model 0x1e, stepping 5

/// Leaf 4: kind 1 data, 2 code, 3 both.
constexpr Identity cache(u32 kind, u32 level, u32 ways, u32 sets) {
  return {kind | level << 5 | 1u << 8, (ways - 1) << 22 | 63, sets - 1, 0};
}

Identity identify(u32 leaf, u32 subleaf) {
  switch (leaf) {
    case 0: return {4, four("Genu"), four("ntel"), four("ineI")};
    case 1: return {kSignature, 1u << 16 | 8 << 8, kFeatures1Ecx, kFeatures1Edx};
    case 2: return {0xff01, 0, 0, 0};  // ask leaf 4
    case 4:
      switch (subleaf) {
        case 0: return cache(1, 1, 8, 64);      // 32 KiB
        case 1: return cache(2, 1, 8, 64);
        case 2: return cache(3, 2, 8, 512);     // 256 KiB
        case 3: return cache(3, 3, 16, 8192);   // 8 MiB
        default: return {};
      }
    case 0x80000000: return {0x80000008, 0, 0, 0};
    case 0x80000001: return {0, 0, kFeaturesExtendedEcx, kFeaturesExtendedEdx};
    case 0x80000002:
    case 0x80000003:
    case 0x80000004: {
      const char* part = kName + (leaf - 0x80000002) * 16;
      return {four(part), four(part + 4), four(part + 8), four(part + 12)};
    }
    case 0x80000006: return {0, 0, 256u << 16 | 6 << 12 | 64, 0};
    case 0x80000007: return {0, 0, 0, 1u << 8};  // the clock is invariant
    case 0x80000008: return {0x3028, 0, 0, 0};   // 40 bits physical, 48 virtual
    default: return {};
  }
}

bool cpuid(Cpu& cpu, const Insn&) {
  const Identity found = identify(static_cast<u32>(cpu.gpr[0]), static_cast<u32>(cpu.gpr[1]));
  cpu.gpr[0] = found.eax;
  cpu.gpr[3] = found.ebx;
  cpu.gpr[1] = found.ecx;
  cpu.gpr[2] = found.edx;
  return true;
}

bool rdtsc(Cpu& cpu, const Insn&) {
  const u64 now = host_tsc();
  cpu.gpr[0] = static_cast<u32>(now);
  cpu.gpr[2] = now >> 32;
  return true;
}
bool rdtscp(Cpu& cpu, const Insn& insn) {
  cpu.gpr[1] = 0;  // the number of the processor
  return rdtsc(cpu, insn);
}

bool clflush(Cpu& cpu, const Insn& insn) { return prepare_load(effective_address(cpu, insn), 1); }

}  // namespace

Handler system_handler(const Insn& insn) {
  const u16 attributes = form_attributes(insn.form);
  if (attributes & FORM_PRIVILEGED) return privileged;
  if (attributes & FORM_UNDEFINED) return undefined;
  switch (insn.mnemonic) {
    case Mnemonic::Cmc: return cmc;
    case Mnemonic::Clc: return clc;
    case Mnemonic::Stc: return stc;
    case Mnemonic::Cld: return cld;
    case Mnemonic::Std: return std;
    case Mnemonic::Lahf: return lahf;
    case Mnemonic::Sahf: return sahf;
    case Mnemonic::Cpuid: return cpuid;
    case Mnemonic::Rdtsc: return rdtsc;
    case Mnemonic::Rdtscp: return rdtscp;
    case Mnemonic::Lfence:
    case Mnemonic::Mfence:
    case Mnemonic::Sfence: return nothing;
    case Mnemonic::Clflush: return clflush;
    // as with UMIP; an interrupt that no program may ask for
    case Mnemonic::Sldt:
    case Mnemonic::Str:
    case Mnemonic::Sgdt:
    case Mnemonic::Sidt:
    case Mnemonic::Smsw:
    case Mnemonic::Int: return privileged;
    default: return nullptr;
  }
}
