/** The worker of steady.ts: says something every so many milliseconds. */

addEventListener("message", (event: MessageEvent<number>) => {
  setInterval(() => postMessage(null), event.data);
});
