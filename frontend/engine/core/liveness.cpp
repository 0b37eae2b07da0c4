#include "select.h"

namespace {

/// What a step that cannot fault does with flags.
enum class FlagUse { None, WritesAll, Other };

FlagUse flag_use(const Op& op) {
  const u32 code = op.code;
  if (code >= OP_ALU && code < OP_CMP_JCC) {
    const u32 alu = (code - OP_ALU) / (kAluForms * kSizes), form = (code - OP_ALU) / kSizes % kAluForms;
    const bool reads = alu == ALU_Adc || alu == ALU_Sbb;
    return !reads && (form == FORM_RR || form == FORM_RI) ? FlagUse::WritesAll : FlagUse::Other;
  }
  if (code >= OP_CMP_JCC) {
    const u32 form = (code - OP_CMP_JCC) / (kSizes * kConditions) % kAluForms;
    return form == FORM_RR || form == FORM_RI ? FlagUse::WritesAll : FlagUse::Other;
  }
  if (code >= OP_MOV && code < OP_CMOV_RR32) {
    const u32 form = (code - OP_MOV) / kSizes;
    return form == FORM_RR || form == FORM_RI ? FlagUse::None : FlagUse::Other;
  }
  if ((code >= OP_SHL_I32 && code <= OP_SAR_I64) || (code >= OP_IMUL_RR32 && code <= OP_IMUL_RR64)) return FlagUse::WritesAll;
  const bool plain = code == OP_LEA_32 || code == OP_LEA_64 || code == OP_ADDRESS || code == OP_MOVZX_R8 || code == OP_MOVZX_R16 ||
                     (code >= OP_ROL_I32 && code <= OP_ROR_I64) || (code >= OP_SHL_N32 && code <= OP_BSWAP_64);
  return plain ? FlagUse::None : FlagUse::Other;
}

}  // namespace

void drop_dead_flags(Op* ops, u32 count) {
  bool dead = false;
  for (u32 i = count; i-- > 0;) {
    Op& op = ops[i];
    if (op.size == 0) continue;  // a Branch, or the end
    const FlagUse use = flag_use(op);
    if (dead && op.code >= OP_SHL_I32 && op.code <= OP_ROR_I64) op.code = static_cast<u16>(op.code + (OP_SHL_N32 - OP_SHL_I32));
    if (use == FlagUse::WritesAll) dead = true;
    else if (use == FlagUse::Other) dead = false;
  }
}
