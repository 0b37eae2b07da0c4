import { describe, expect, it } from "vitest";
import { aboutLine } from "./share";

const preview = {
  name: "Lab",
  image: "Debian 12",
  message: "",
  shared_by: null,
  saved_at: "2026-05-03T10:00:00Z",
  allow_guests: true,
  thumbnail: null,
  warm_pack: { digest: "00", url: "/chunks/pub/00" },
};

describe("aboutLine", () => {
  it("names the image and the time", () => {
    expect(aboutLine(preview, "en-GB")).toMatch(/^Debian 12, saved 3 May 2026/);
  });

  it("names who shared it and what they wrote", () => {
    const line = aboutLine({ ...preview, shared_by: "Ada", message: "before the exam" }, "en-GB");
    expect(line).toContain(", shared by Ada,");
    expect(line).toMatch(/: “before the exam”$/);
  });
});
