/** The emulators' code: each in a file of its own, so that only the one that is needed is loaded. */

import type { LinuxMachine } from "./linux/linux";
import type { MachineKind } from "./machine";
import type { Pc } from "./pc/pc";

interface Emulators {
  pc: { Pc: typeof Pc };
  linux: { LinuxMachine: typeof LinuxMachine };
}

const LOADERS: { [K in MachineKind]: () => Promise<Emulators[K]> } = {
  pc: () => import("./pc/pc"),
  linux: () => import("./linux/linux"),
};

export function loadEmulator<K extends MachineKind>(kind: K): Promise<Emulators[K]> {
  return LOADERS[kind]();
}
