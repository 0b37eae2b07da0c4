/**
 * Who holds an open file: descriptors, messages on their way (SCM_RIGHTS), mounts. A new file begins with one reference: its
 * maker's, which `FileTable.add` takes over.
 */

import type { OpenFile } from "./types.ts";

export function holdFile(file: OpenFile): OpenFile {
  file.references += 1;
  return file;
}

/** The last one to drop it releases it. */
export function dropFile(file: OpenFile): void {
  file.references -= 1;
  if (file.references === 0) file.release();
}
