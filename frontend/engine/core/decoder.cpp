/// Bytes to instructions. The tables say what exists; here is how x86-64 puts it into bytes (Intel SDM vol. 2, chapter 2).
#include "decoder.h"

#include "decoder_tables.h"

namespace {

constexpr u32 kMaxLength = 15;

enum Rex : u8 { REX_B = 1, REX_X = 2, REX_R = 4, REX_W = 8 };

/// Reads bytes in order; past the end it notes that and reads zeros.
struct Reader {
  const u8* bytes;
  u32 size;  // at most kMaxLength
  u32 at = 0;
  bool short_of_bytes = false;

  u8 byte() {
    if (at >= size) {
      short_of_bytes = true;
      return 0;
    }
    return bytes[at++];
  }

  u64 number(u32 count) {
    if (size - at < count) {
      short_of_bytes = true;
      return 0;
    }
    u64 value = 0;
    for (u32 i = 0; i < count; i++) value |= u64{bytes[at + i]} << (8 * i);
    at += count;
    return value;
  }
};

struct Prefixes {
  u8 rex = 0;
  u8 repeat = 0;  // the last of F2 and F3
  u8 segment = 0;
  bool operand_size = false;
  bool address_size = false;
  bool lock = false;
};

i64 sign_extend(u64 value, u32 bytes) {
  const u32 shift = 64 - 8 * bytes;
  return static_cast<i64>(value << shift) >> shift;
}

/// Reads prefixes and returns the byte behind them. REX counts only directly before the opcode; of the segments only FS and GS exist.
u8 read_prefixes(Reader& in, Prefixes& found) {
  while (true) {
    const u8 byte = in.byte();
    if (in.short_of_bytes) return 0;
    switch (byte) {
      case 0x66: found.operand_size = true; break;
      case 0x67: found.address_size = true; break;
      case 0xf0: found.lock = true; break;
      case 0xf2: case 0xf3: found.repeat = byte; break;
      case 0x64: found.segment = PREFIX_FS; break;
      case 0x65: found.segment = PREFIX_GS; break;
      case 0x26: case 0x2e: case 0x36: case 0x3e: break;
      default:
        if ((byte & 0xf0) != 0x40) return byte;
        found.rex = byte;
        continue;
    }
    found.rex = 0;
  }
}

bool prefix_matches(u8 mandatory, const Prefixes& prefixes) {
  switch (static_cast<Mandatory>(mandatory)) {
    case Mandatory::Any: return true;
    case Mandatory::None: return !prefixes.operand_size && prefixes.repeat == 0;
    case Mandatory::OperandSize: return prefixes.operand_size && prefixes.repeat == 0;
    case Mandatory::Rep: return prefixes.repeat == 0xf3;
    case Mandatory::Repne: return prefixes.repeat == 0xf2;
  }
  return false;
}

bool form_matches(const Form& form, const Prefixes& prefixes, u8 modrm) {
  if (!prefix_matches(form.prefix, prefixes)) return false;
  if (form.w != 2 && form.w != ((prefixes.rex & REX_W) ? 1 : 0)) return false;
  if ((modrm & form.modrm_mask) != form.modrm_value) return false;
  if ((form.attributes & FORM_B0) && (prefixes.rex & REX_B)) return false;
  if (form.restricted == Restricted::Any) return true;
  return (form.restricted == Restricted::Register) == (modrm >= 0xc0);
}

u8 operand_size_of(const Form& form, const Prefixes& prefixes) {
  if (form.attributes & FORM_BYTE) return 1;
  if ((form.attributes & FORM_F64) || (prefixes.rex & REX_W)) return 8;
  const bool small = prefixes.operand_size && static_cast<Mandatory>(form.prefix) != Mandatory::OperandSize;
  if (small) return 2;
  return (form.attributes & FORM_D64) ? 8 : 4;
}

u16 size_in_bytes(u16 size, u8 operand_size) {
  switch (size) {
    case kSizeV: return operand_size;
    case kSizeZ: return operand_size > 4 ? 4 : operand_size;
    case kSizeY: return operand_size < 4 ? 4 : operand_size;
    case kSizeP: return operand_size + 2;
    default: return size;
  }
}

void read_memory(Reader& in, u8 modrm, const Prefixes& prefixes, Insn& out) {
  const u8 mod = modrm >> 6, rm = modrm & 7;
  u32 displacement_size = mod == 1 ? 1 : mod == 2 ? 4 : 0;
  if (rm == 4) {
    const u8 sib = in.byte();
    out.scale = static_cast<u8>(1 << (sib >> 6));
    out.index = ((sib >> 3) & 7) | ((prefixes.rex & REX_X) ? 8 : 0);
    if (out.index == 4) out.index = kNoRegister, out.scale = 1;
    out.base = (sib & 7) | ((prefixes.rex & REX_B) ? 8 : 0);
    if ((sib & 7) == 5 && mod == 0) out.base = kNoRegister, displacement_size = 4;
  } else if (rm == 5 && mod == 0) {
    out.base = kRip;
    displacement_size = 4;
  } else {
    out.base = rm | ((prefixes.rex & REX_B) ? 8 : 0);
  }
  if (displacement_size != 0) out.displacement = sign_extend(in.number(displacement_size), displacement_size);
}

void read_immediate(Reader& in, Imm kind, bool first, const Prefixes& prefixes, Insn& out) {
  u64 value = 0;
  switch (kind) {
    case Imm::None: return;
    case Imm::Ib: value = in.byte(); break;
    case Imm::Iw: value = in.number(2); break;
    case Imm::Iz: {
      const u32 size = out.operand_size == 2 ? 2 : 4;
      value = static_cast<u64>(sign_extend(in.number(size), size));
      break;
    }
    case Imm::Iv: value = in.number(out.operand_size); break;
    case Imm::Ibs:
    case Imm::Jb: value = static_cast<u64>(sign_extend(in.byte(), 1)); break;
    case Imm::Jz: value = static_cast<u64>(sign_extend(in.number(4), 4)); break;
    case Imm::Mo:
      value = in.number(prefixes.address_size ? 4 : 8);
      out.displacement = static_cast<i64>(value);
      break;
  }
  if (first) {
    out.immediate = value;
  } else {
    out.immediate2 = static_cast<u8>(value);
  }
}

Operand register_operand(const OperandSpec& spec, u8 number, u8 operand_size, bool rex) {
  const u16 size = size_in_bytes(spec.register_size, operand_size);
  switch (spec.kind) {
    case OperandKind::Gpr:
      if (size == 1 && !rex && number >= 4) return {OperandKind::GprHigh, static_cast<u8>(number - 4), 1};
      return {OperandKind::Gpr, number, size};
    case OperandKind::Mmx:
    case OperandKind::St:
    case OperandKind::Segment: return {spec.kind, static_cast<u8>(number & 7), size};
    default: return {spec.kind, number, size};
  }
}

Operand make_operand(const OperandSpec& spec, const Prefixes& prefixes, u8 opcode, u8 modrm, Insn& out) {
  const u8 b = (prefixes.rex & REX_B) ? 8 : 0, r = (prefixes.rex & REX_R) ? 8 : 0;
  const bool rex = prefixes.rex != 0;
  const u16 size = size_in_bytes(spec.memory_size, out.operand_size);
  switch (spec.place) {
    case Place::Rm:
      if (modrm < 0xc0) return {OperandKind::Memory, 0, size};
      return register_operand(spec, static_cast<u8>((modrm & 7) | b), out.operand_size, rex);
    case Place::Reg: return register_operand(spec, static_cast<u8>(((modrm >> 3) & 7) | r), out.operand_size, rex);
    case Place::Low: return register_operand(spec, static_cast<u8>((opcode & 7) | b), out.operand_size, rex);
    case Place::Fixed: return {spec.kind, spec.fixed, size_in_bytes(spec.register_size, out.operand_size)};
    case Place::Immediate:
    case Place::Immediate2: return {OperandKind::Immediate, 0, size};
    case Place::Relative: return {OperandKind::Relative, 0, size};
    case Place::Absolute: return {OperandKind::Memory, 0, size};
    case Place::One: out.immediate = 1; return {OperandKind::Immediate, 0, size};
  }
  return {OperandKind::None, 0, 0};
}

/// Segment registers 6 and 7 do not exist, and CS cannot be written.
bool segments_exist(const Insn& insn) {
  for (u32 i = 0; i < insn.operand_count; i++) {
    const Operand& operand = insn.operands[i];
    if (operand.kind != OperandKind::Segment) continue;
    if (operand.reg > 5 || (operand.reg == 1 && i == 0)) return false;
  }
  return true;
}

const Form* find_form(const Opcode& opcode, const Prefixes& prefixes, u8 modrm, u16& number) {
  for (u32 i = 0; i < opcode.count; i++) {
    number = kCandidates[opcode.first + i];
    if (form_matches(kForms[number], prefixes, modrm)) return &kForms[number];
  }
  return nullptr;
}

}  // namespace

int decode(const u8* bytes, u32 size, Insn& out) {
  Reader in{bytes, size < kMaxLength ? size : kMaxLength};
  const int too_short = size < kMaxLength ? 0 : -1;  // longer than 15 bytes: no instruction
  out = Insn{};
  out.base = out.index = kNoRegister;
  out.scale = 1;

  Prefixes prefixes;
  u8 opcode = read_prefixes(in, prefixes);
  u32 map = 0;
  if (opcode == 0x0f) {
    map = 1;
    opcode = in.byte();
    if (opcode == 0x38 || opcode == 0x3a) {
      map = opcode == 0x38 ? 2 : 3;
      opcode = in.byte();
    }
  }
  if (in.short_of_bytes) return too_short;
  const Opcode& entry = kOpcodes[map * 256 + opcode];
  if (entry.count == 0) return -1;
  u8 modrm = entry.modrm ? in.byte() : 0;
  if (in.short_of_bytes) return too_short;
  const Form* form = find_form(entry, prefixes, modrm, out.form);
  if (form == nullptr) return -1;
  if (form->attributes & FORM_MODIGNORED) modrm |= 0xc0;

  out.mnemonic = form->mnemonic;
  out.operand_size = operand_size_of(*form, prefixes);
  out.condition = opcode & 15;
  if (entry.modrm && modrm < 0xc0) read_memory(in, modrm, prefixes, out);
  read_immediate(in, form->immediates[0], true, prefixes, out);
  read_immediate(in, form->immediates[1], false, prefixes, out);
  if (in.short_of_bytes) return too_short;

  out.operand_count = form->operand_count;
  for (u32 i = 0; i < form->operand_count; i++) {
    out.operands[i] = make_operand(kOperandSpecs[form->operands[i]], prefixes, opcode, modrm, out);
  }
  if (!segments_exist(out)) return -1;
  if (prefixes.lock) {
    if (!(form->attributes & FORM_LOCK) || out.operands[0].kind != OperandKind::Memory) return -1;
    out.prefixes |= PREFIX_LOCK;
  }
  if (static_cast<Mandatory>(form->prefix) == Mandatory::Any && prefixes.repeat != 0) {
    out.prefixes |= prefixes.repeat == 0xf3 ? PREFIX_REP : PREFIX_REPNE;
  }
  out.prefixes |= prefixes.segment;
  if (prefixes.address_size) out.prefixes |= PREFIX_ADDRESS32;
  out.length = static_cast<u8>(in.at);
  return static_cast<int>(in.at);
}

u16 form_attributes(u16 form) {
  return form < sizeof kForms / sizeof kForms[0] ? kForms[form].attributes : 0;
}

bool form_aligned(u16 form) {
  return (form_attributes(form) & FORM_ALIGN) != 0;
}
