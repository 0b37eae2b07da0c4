/** The version of the v86 package, put in by the build. */
declare const __V86_VERSION__: string;
