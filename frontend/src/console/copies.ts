/** Another VM that starts as this one is. */

import type { SessionOptions } from "./model";

/**
 * Makes a VM from the snapshot `base` (null: as the image was published), or from what the VM opens with at this moment. Resolves
 * with its id.
 */
export async function copyVm(
  { api, vm, descriptorUrl }: Pick<SessionOptions, "api" | "vm" | "descriptorUrl">,
  base: string | null | undefined,
): Promise<string> {
  const now = await api.open(descriptorUrl);
  const name = `${now.vm.name.slice(0, 110)} (copy)`;
  const from = base === undefined ? now.snapshot?.id : base;
  if (from) return (await api.forkSnapshot(from, name)).id;
  const { image, tenant } = await api.vm(vm);
  return (await api.createVm({ image: image.slug, tenant, name })).id;
}
