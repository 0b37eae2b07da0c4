/// Turns a region into one wasm function. Registers are locals; flags are kept as operands and result; control flow is structured.
#pragma once
#include "region.h"
#include "translator.h"
#include "wasm_writer.h"

namespace jit {

/// Locals of the function. Those of registers are loaded at its beginning and stored at its end, if the region uses them.
enum Local : u32 {
  BUDGET = 0,  // parameter and result
  GPR = 1,     // 16 of them
  FLAG_A_LOCAL = 17,
  FLAG_B_LOCAL,
  FLAG_RESULT_LOCAL,
  STEP_RESULT,
  TURN_RESULT,
  RIP,
  ADDRESS,
  T0,
  T1,
  T2,
  SECOND,
  OFFSET,  // in a remembered range
  TIMES,   // a loop may run without a look at its ranges
  LAST_I64 = TIMES,
  KIND,
  STEP,
  TURN,
  DONE,   // how a handler ended
  LIMIT,  // below this budget a loop looks at its ranges again
  LAST_I32 = LIMIT,
  XMM,  // 16 of them
  VECTOR = XMM + 16,
  VECTOR2,
  VECTOR3,
  RESULT,
  ZERO,  // never set
  LAST_V128 = ZERO,
  DOUBLE_A,
  DOUBLE_B,
  DOUBLE_RESULT,
  LANE,  // of XMM registers, the 16 first lanes as doubles: what the vector's should be (`apart_`)
  LAST_F64 = LANE + 15,
  SINGLE_A,
  SINGLE_B,
  SINGLE_RESULT,
  LAST_F32 = SINGLE_RESULT,
};

/// XMM registers (bits) whose first lane is known to be a normal number or 0.
struct Clean {
  u32 doubles, singles;

  bool operator==(const Clean&) const = default;
};

/// What the address of a memory operand is made of.
struct Place {
  u8 base, index, scale;
  u8 segment;   // PREFIX_FS, PREFIX_GS or 0
  bool narrow;  // cut off to 32 bits
  i64 displacement;
};

/// A memory access, in the order in which they are written, and the check that is made for it.
struct Access {
  Place place;
  u8 block;
  bool store;
  u32 base_version, index_version;
  u32 leader;     // the access whose check is this one's too
  u32 others;     // of a leader: for how many
  i64 low, high;  // bytes from the registers' values at their versions; of a leader: of all
  i64 before;     // of a leader: how far the first byte of all is before its own
  bool ahead;     // checked at the loop's head for the times to come
};
/// In a function at the most.
constexpr u32 kAccesses = 2 * kRegionInstructions;

/// What one turn of a loop of one block adds to registers.
struct LoopSteps {
  u8 block;
  u16 steady;  // registers (bits) to which constants are added, or nothing
  i64 steps[16];
  bool ahead;  // an access is checked for turns to come
};
/// Of a function; others look at their ranges in every turn.
constexpr u32 kSteadyLoops = 32;

struct FloatOperation;

/// What the translated form of an instruction does to the flags.
enum class FlagUse : u8 {
  None,
  Sets,   // all six (undefined ones included)
  Steps,  // inc and dec: all but the carry
  Turns,  // rotations: carry and overflow
};
struct FlagEffect {
  bool translated;  // else it runs by its handler
  bool observes;    // reads some, or may leave the function before it is done
  bool counted;     // by cl: nothing when that is 0
  FlagUse use;
  FlagKind kind;
};
/// A part of the flags' kind that is known only when the function runs.
constexpr u32 kUnknown = 0xffff;
/// What is known of LeftFlags' kinds at translation.
struct Kinds {
  u32 base, step, turn;

  bool operator==(const Kinds&) const = default;
};
FlagEffect effect_of(const Insn& insn);
bool is_translated_sse(const Insn& insn);
bool is_shuffle(const Insn& insn);
/// One that can be translated, and one that is: as MXCSR is now.
bool is_float_mnemonic(const Insn& insn);
bool is_float_operation(const Insn& insn);
/// The same of comparisons (among the next) and conversions of scalars.
bool is_comparison_mnemonic(const Insn& insn);
bool is_conversion_mnemonic(const Insn& insn);
bool is_float_conversion(const Insn& insn);

class Emitter {
 public:
  Emitter(const Region& region, u8* bytes, u32 capacity) : region_(region), w(bytes, capacity) {}

  /// The function's body, with its locals; false when it does not fit.
  bool emit();
  const wasm::Writer& written() const { return w; }

 private:
  // emitter.cpp: control flow, entry and exit
  void emit_function();
  void prologue();
  void epilogue();
  u32 counted_of(u8 block) const;
  void emit_tree(u8 block);
  void emit_within(u8 block, const u8* merges, u32 count);
  void emit_block(u8 block);
  void emit_edge(u8 from, u8 to, u64 address);
  /// Ends the function with rip at `address`; of the current block's instructions `done` have run.
  void leave(u64 address, u32 done);
  void emit_instruction(const Insn& insn);
  /// Calls, returns and indirect jumps: leaves where they lead to in RIP.
  void emit_going(const Insn& insn);
  /// Pushes the value in T0 onto the guest's stack.
  void emit_push();
  /// Runs the instruction by its handler, with all state in memory meanwhile.
  void emit_by_handler(const Insn& insn);

  // emit_integer.cpp, emit_sse.cpp: true when it was translated
  bool emit_integer(const Insn& insn);
  bool emit_move(const Insn& insn);
  bool emit_arithmetic(const Insn& insn);
  bool emit_shift(const Insn& insn);
  bool emit_conditional(const Insn& insn);
  bool emit_stack(const Insn& insn);
  // emit_wide.cpp
  bool emit_wide(const Insn& insn);
  void push_upper_product();
  void emit_wide_product(const Insn& insn);
  void emit_quotient(const Insn& insn);
  void emit_compare_exchange(const Insn& insn);
  void emit_exchange_add(const Insn& insn);
  void emit_scan(const Insn& insn);
  void emit_bit(const Insn& insn);
  void finish_arithmetic(const Insn& insn, wasm::Op op, bool writes);
  bool emit_sse(const Insn& insn);
  void emit_part_move(const Insn& insn);
  void move_double(const Insn& insn);
  void emit_float(const Insn& insn);
  void get_xmm(u8 number);
  void set_xmm(u8 number);
  void push_vector(const Insn& insn, const Operand& operand);
  void pop_vector(const Insn& insn, const Operand& operand);
  void emit_scalar_float(const Insn& insn, const FloatOperation& operation);
  void leave_unless_harmless(const FloatOperation& operation);
  void leave_unless_exact_zero(const FloatOperation& operation);
  void leave_if_denormal(u32 local, bool wide);
  void leave_if_loaded_denormal(u32 local, bool wide);
  bool is_calculated_with(u8 number) const;
  void push_is_extraordinary(u32 local, bool wide);
  void push_is_zero_scalar(u32 local, bool wide);
  void take_magnitude(u32 local, u32 into, bool wide);
  void push_is_normal(u32 local, bool wide, bool rounded = false);
  void push_is_zero(u32 local, bool wide);
  void push_zero_vector();
  /// What is known after the instruction.
  Clean clean_after(const Insn& insn, Clean before) const;
  void find_clean();
  void shuffle(const u8* lanes);

  // emit_operands.cpp
  void get_register(u8 number);
  void set_register(u8 number);
  /// Pushes the operand's value, zero-extended to 64 bits. Leaves a memory operand's address in ADDRESS.
  void push_operand(const Insn& insn, const Operand& operand);
  /// The same, but bits above the operand's mean nothing.
  void push_unmasked(const Insn& insn, const Operand& operand);
  /// Pops a zero-extended value into the operand; a memory operand's address is in ADDRESS.
  void pop_operand(const Operand& operand);
  /// Leaves the memory operand's address in ADDRESS.
  void find_address(const Insn& insn);
  /// Pushes what is at ADDRESS.
  void push_load(u32 size);
  /// Pops the value to ADDRESS. Uses T2.
  void pop_store(u32 size);
  /// Leaves the stack's address, from that register, in ADDRESS.
  void find_stack(u8 pointer, i64 offset);
  /// Leaves before this instruction when the access at ADDRESS can't be made directly.
  void leave_unless_direct(u32 size, u8 page_bit, bool aligned = false);
  /// Pushes the allowed address as an i32.
  void push_address();
  void leave_unless_allowed(u32 size, u8 page_bit);
  bool is_stack_place(const Place& place) const;
  void push_segment_base(u8 segment);
  /// Of the remembered range for that place of the region.
  u32 range_of(const Place& place, bool store) const;
  void leave_unless_page_has(u8 page_bit);
  void push_sign_extended(u32 size);
  void mask_to(u32 size);
  void call_helper(u32 table_index);
  /// Leaves with rip at this instruction, of which nothing is done: the interpreter does what is rare. Calls would be worse than
  /// that: around them wasm's compilers keep no locals in registers.
  void leave_before();
  /// The same when the i32 on the stack is not 0.
  void leave_before_if();

  // accesses.cpp
  void note_change(u8 number);
  void note_access(u32 size, bool store);

  // steady_loops.cpp
  bool is_single(u8 block) const;
  void note_steps(u8 block);
  LoopSteps* steps_of(u8 block);
  void check_ahead(u8 block);
  void look_first(u8 block);
  void leave_if_spent(u8 block);
  void emit_loop_head(u8 block);
  void emit_check_ahead(const Access& access, const LoopSteps& loop);

  // emit_shuffle.cpp
  void emit_half_move(const Insn& insn);
  void emit_shuffle(const Insn& insn);

  // emit_convert.cpp
  void push_scalar(const Insn& insn, const Operand& operand, bool wide);
  void set_scalar(u8 number, bool wide);
  void push_double(u8 number);
  void set_double(u8 number);
  void join_lane(u8 number);
  void join_lanes();
  bool is_clean(const Operand& operand, bool wide) const;
  void leave_unless_number(u32 local, bool wide);
  void emit_float_comparison(const Insn& insn);
  void emit_conversion(const Insn& insn);

  // emit_conditions.cpp
  void push_condition(u8 condition);
  bool push_known_condition(u8 pair);
  bool push_step_condition(u8 pair);
  bool push_base_condition(u8 pair);
  // emit_flags.cpp
  /// Notes the flags of the instruction with operands in T1 and SECOND and the result in T0.
  void note_flags(const Insn& insn);
  /// Makes the locals KIND, STEP and TURN hold what is known at translation.
  void settle_kinds();
  void settle_kinds_for(const Kinds& next);
  void spill_flags();
  void reload_flags();
  void find_kinds();
  void find_dead_flags();
  void find_loops();
  /// The kinds after the instruction.
  Kinds kinds_after(u32 index, const Kinds& before) const;
  /// Whether nobody sees the flags that this instruction sets.
  bool flags_are_dead(u32 index) const { return dead_[index]; }

  const Region& region_;
  wasm::Writer w;
  // Bits of registers: those that the function holds in locals, and what was used while it was written.
  u32 held_ = 0xffff, held_xmm_ = 0xffff;
  u32 changed_ = 0xffff, changed_xmm_ = 0xffff;
  u32 used_ = 0, used_xmm_ = 0;
  u32 written_ = 0, written_xmm_ = 0;
  u32 depth_ = 0;  // open labels
  u32 exit_label_ = 0;
  u32 merge_label_[kRegionBlocks] = {};
  u32 loop_label_[kRegionBlocks] = {};
  Kinds kinds_in_[kRegionBlocks] = {};
  Kinds kinds_ = {};
  bool dead_[kRegionInstructions] = {};
  bool in_loop_[kRegionBlocks] = {};
  Clean clean_in_[kRegionBlocks] = {};
  Clean clean_ = {};
  u32 apart_ = 0;  // XMM registers (bits) whose first double is in a local of its own
  u32 tame_ = 0;   // whose first double is not denormal
  // The address in ADDRESS: what is known of it.
  Place place_ = {};
  bool is_constant_ = false;
  u64 constant_ = 0;
  bool is_unlooked_ = false;  // an earlier check allows it
  bool updates_ = false;  // the instruction reads its memory operand, then writes it
  // From the first writing for the second. Of registers, in the block: the number of the value that was set last, and what constants have added since.
  u32 versions_ = 0;
  u32 version_[16] = {};
  i64 moved_[16] = {};
  u32 block_version_ = 0;  // the last number before the block's
  u32 steady_loops_ = 0;
  LoopSteps steady_loop_[kSteadyLoops];
  u32 accesses_ = 0, measured_ = 0;
  Access access_[kAccesses];
  u8 block_ = 0;
  u32 index_ = 0;  // the instruction that is being written
  bool failed_ = false;
  bool measuring_ = false;
};

/// The module's only function type: i32 to i32.
constexpr u32 kFunctionType = 0;

}  // namespace jit
