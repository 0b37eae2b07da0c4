/** The parts of `/api/v1/` that the console uses, with typed errors. */

import type { LocateAnswer, LocateRequest, OpenDescriptor } from "../machine/client";
import type { KeyAnswer } from "../journal/sealing";
import { Expected } from "../sync/errors";

export interface Descriptor extends OpenDescriptor {
  vm: { id: string; name: string; tenant: string; autosave_seconds: number };
  snapshot: { id: string; message: string; created_at: string } | null;
  image: OpenDescriptor["image"] & { id: string; title: string; version: number | string };
  locate_url: string;
  socket_url: string;
}

export interface ShareLink {
  id: string;
  snapshot: string;
  state: "active" | "expired" | "used_up" | "revoked";
  created_at: string;
  expires_at: string | null;
  max_uses: number | null;
  uses: number;
}

export interface NewLink extends ShareLink {
  /** Seen this one time only. */
  url: string;
}

export interface VmInfo {
  id: string;
  name: string;
  tenant: string;
  image: { slug: string };
  /** Who has it open. */
  open_in: { holder: string; since: string } | null;
}

export class Api {
  constructor(private readonly csrfToken: () => string) {}

  open(url: string): Promise<Descriptor> {
    return this.call("GET", url);
  }

  locate(url: string, request: LocateRequest): Promise<LocateAnswer> {
    return this.call("POST", url, request);
  }

  vm(id: string): Promise<VmInfo> {
    return this.call("GET", `/api/v1/vms/${id}`);
  }

  /** The machines of a tenant that somebody has open, up to a hundred. */
  async runningVms(tenant: string): Promise<VmInfo[]> {
    const query = new URLSearchParams({ running: "true", tenant, limit: "100" });
    return (await this.call<{ items: VmInfo[] }>("GET", `/api/v1/vms?${query.toString()}`)).items;
  }

  /** 0: never. */
  setAutosave(id: string, seconds: number): Promise<VmInfo> {
    return this.call("PATCH", `/api/v1/vms/${id}`, { autosave_seconds: seconds });
  }

  /** By default into the user's own tenant. */
  forkSnapshot(snapshot: string, name: string, tenant?: string): Promise<VmInfo> {
    return this.call("POST", `/api/v1/snapshots/${snapshot}/fork`, { name, ...(tenant ? { tenant } : {}) });
  }

  journalKey(vm: string): Promise<KeyAnswer> {
    return this.call("POST", `/api/v1/vms/${vm}/journal-key`);
  }

  createVm(body: { image: string; tenant: string; name: string }): Promise<VmInfo> {
    return this.call("POST", "/api/v1/vms", body);
  }

  async links(vm: string): Promise<ShareLink[]> {
    const answer = await this.call<{ items: ShareLink[] }>("GET", `/api/v1/vms/${vm}/links`);
    return answer.items;
  }

  createLink(
    snapshot: string,
    limits: { expires_in: number | null; max_uses: number | null },
  ): Promise<NewLink> {
    return this.call("POST", `/api/v1/snapshots/${snapshot}/links`, { mode: "fork", ...limits });
  }

  revokeLink(id: string): Promise<void> {
    return this.call("DELETE", `/api/v1/links/${id}`);
  }

  private async call<T>(method: string, url: string, body?: unknown): Promise<T> {
    const headers: Record<string, string> = { Accept: "application/json" };
    if (method !== "GET") headers["X-CSRFToken"] = this.csrfToken();
    if (body !== undefined) headers["Content-Type"] = "application/json";
    let response: Response;
    try {
      response = await fetch(url, {
        method,
        headers,
        credentials: "same-origin",
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
    } catch {
      throw new Expected("offline", "The service cannot be reached. Check the network and try again.");
    }
    if (response.status === 204) return undefined as T;
    const answer: unknown = await response.json().catch(() => undefined);
    if (response.ok) return answer as T;
    const error = (answer as { error?: { code?: string; message?: string } } | undefined)?.error;
    throw new Expected(
      error?.code ?? `http_${response.status}`,
      error?.message ?? `The service answered with an error (${response.status}). Try again in a moment.`,
      { ...error, status: response.status },
    );
  }
}

/** The token that Django wants back with every change: the page has it in a `meta` element. */
export function csrfFromPage(): string {
  return document.querySelector<HTMLMetaElement>('meta[name="csrf-token"]')?.content ?? "";
}

/** The open descriptor that the page was made with, as a block of JSON. */
export function descriptorFromPage(): Descriptor | undefined {
  const text = document.getElementById("descriptor")?.textContent;
  return text ? (JSON.parse(text) as Descriptor) : undefined;
}
