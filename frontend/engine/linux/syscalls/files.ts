/** All system calls on files and names. */

import type { SystemCalls } from "../types.ts";
import { attributeCalls } from "./attributes.ts";
import { descriptorCalls } from "./descriptors.ts";
import { directoryCalls } from "./directories.ts";
import { mountCalls } from "./mounts.ts";
import { openCalls } from "./open.ts";
import { readingCalls } from "./reading.ts";
import { statCalls } from "./stat.ts";
import { transferCalls } from "./transfer.ts";
import { xattrCalls } from "./xattrs.ts";

export const fileCalls: SystemCalls = {
  ...openCalls,
  ...readingCalls,
  ...statCalls,
  ...directoryCalls,
  ...attributeCalls,
  ...descriptorCalls,
  ...transferCalls,
  ...xattrCalls,
  ...mountCalls,
};
