/** Where the chunks of a machine that starts are: asked before the worker, which needs it first of all, is there. */

import { wholeDevice } from "../disk/locator";
import { LEAF_BLOCKS } from "../disk/index-node";
import type { LocateAnswer, LocateRequest, OpenDescriptor } from "../machine/client";

type Locate = (request: LocateRequest) => Promise<LocateAnswer>;

/** Like `locate`, but what a start asks about a saved memory is on its way already. */
export function locateAhead({ snapshot, memory }: OpenDescriptor, locate: Locate): Locate {
  const ahead = new Map<string, Promise<LocateAnswer>>();
  if (snapshot && memory && !memory.public) {
    for (const leaves of wholeDevice(Math.ceil(memory.blocks / LEAF_BLOCKS))) {
      const request: LocateRequest = { snapshot: snapshot.id, device: "memory", leaves };
      const answer = locate(request);
      // Its failure is heard by who asks for it.
      answer.catch(() => undefined);
      ahead.set(JSON.stringify(request), answer);
    }
  }
  return (request) => {
    const key = JSON.stringify(request);
    const answer = ahead.get(key);
    // Once only: who asks again has a reason to.
    ahead.delete(key);
    return answer ?? locate(request);
  };
}
