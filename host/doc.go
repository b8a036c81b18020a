// Package host finds, starts, watches and talks to the plugin processes of architecture families.
//
// A [Host] starts nothing until it is asked for something that only a family can answer. It then starts one process for the
// family, which concurrent callers share, and ends it when nobody has used it for a while. A process that crashes is started
// again once and the inference that it was computing is computed again; a training continues from its last checkpoint. A
// process that does not answer within its deadline is killed. Every such event is one line for the user: which family in
// which version, what it was doing, what the system said, and the last line of its log.
//
// Faults of a plugin are an [Error], whose kinds are this package's errors. What a plugin has to say to the user, such as that weights do not fit, comes as it
// is, and errors.Is tells it apart as in one process: weights.ErrMismatch, ErrFormat and ErrRefused, of a training's data vision.ErrFormat, ErrTooLarge
// and ErrEmpty, finetune.ErrRunExists, and fs.ErrNotExist and ErrPermission. What ends since the caller's context did is that context's cause.
//
// Which binary serves a family: one of Options.Binaries, else of the first folder of Options.Dirs that holds one, the newest version in it;
// the family linked into the running program only where there is none. A binary is called zoo-<family> and lies in a folder itself, or in
// <family>/<version>/ below it, so that versions can stay side by side; Options.Versions chooses among them.
//
// What a plugin may do (Options.Isolation): it has no network; it reads the system's libraries, its own file,
// Options.ReadOnly and what a call names (weights, data); it writes only the run folder of a training and, if that caches
// features, their folder. It gets a short list of environment variables. On Linux this is enforced with Landlock, namespaces and seccomp
// before its first instruction; elsewhere, or where the kernel refuses, it runs unconfined and the log says so. Its processes form a group
// that dies with it, and it dies with the host.
//
// Tensors are passed in memory that both processes map (see internal/pluginrpc.Memory), the call itself through gRPC on
// a Unix socket with mutual TLS, or from the third inference on through a line, where both sides have one (see
// internal/pluginrpc.Line). A segment that a plugin may still touch is never used for another call.
//
// Everything exported is safe for concurrent use unless it says otherwise.
package host
