@0xc3f1a5d2b7e94608;
# The contract between Miwen (the client) and Krapao (the server): Cap'n Proto RPC over one stream, level 1.
#
# Object capabilities, not a list of functions: the bootstrap capability opens a session, the session opens a repository
# (its source and git credentials go in once), and who holds a Repository may read that repository. Releasing a capability
# ends what it stands for; so does the end of the connection.
#
#     bootstrap -> Krapao.openSession -> Session.openRepository -> Repository.head / render / watch
#
# Opening never fails by itself, so each step may be pipelined on the one before: open + head is one round trip.
#
# Rules for who changes this file:
#   - add fields and methods with the next free number; never renumber, retype or reuse one;
#   - a pointer that is null means "not given", which is not the same as empty text;
#   - a field's default must mean what an older peer, which does not know the field, means;
#   - what goes wrong is a Failure in a result, never an exception: an exception carries a traceback to the peer.
# jiemi/rpc/contract.py has the same contract as Python values; jiemi/rpc/codec.py translates.

const protocolVersion :UInt16 = 1;
# What this file describes. It grows only when adding is not enough.

interface Krapao {
  # The bootstrap capability.

  openSession @0 (protocolVersion :UInt16) -> (session :Session, protocolVersion :UInt16);
  # Each end tells the version that it speaks, and both then speak the lower one. It must be the first call, and come soon
  # after the connection: a connection that opens no session is closed.
}

interface Session {
  openRepository @0 (source :Source, credentials :GitCredentials) -> (repository :Repository);
  # Never fails and asks the git host nothing. What is wrong with the source (or a limit that is reached) is told by every
  # method of the repository.
}

interface Repository {
  # A repository that is open; released, Krapao forgets it. Cancelling a call ends its work.

  head @0 (maxAgeSeconds :Float64) -> (result :HeadResult);
  # The newest revision of the followed ref. maxAgeSeconds: seconds; an answer of the host that old at most will do, 0 asks
  # the host now. Not negative and not NaN.

  render @1 (request :RenderRequest) -> (result :RenderResult);
  # One file of one revision, decrypted.

  watch @2 (watcher :Watcher) -> (subscription :Subscription);
  # Tells the watcher when the followed ref is seen to move, until the subscription is released.
}

interface Watcher {
  # Implemented by the client.

  moved @0 (head :Head) -> ();
  # The newest revision. The next one is told when this call has returned; what moved meanwhile is merged into it.

  ended @1 (failure :Failure) -> ();
  # Nothing more will be told, and why.
}

interface Subscription {
  # Release it to end the watch.
}

interface Receipt {
  # Release it when the result that it came with has been taken: until then its bytes count as in flight.
}

struct Source {
  url @0 :Text;             # as in spec.source.repository.url; holds no credential
  ref :union {              # what is followed
    head @1 :Void;          # the repository's HEAD
    branch @2 :Text;        # short name
    tag @3 :Text;           # short name
  }
}

struct GitCredentials {
  # Each null where it is not given.
  username @0 :Text;        # for https; for ssh the user where the URL names none
  token @1 :Text;           # password or access token, for https
  ssh @2 :Text;             # private key in OpenSSH or PEM form
  knownHosts @3 :Text;      # lines of a known_hosts file (sshd(8))
}

struct Head {
  revision @0 :Text;        # full commit hash, 40 or 64 lower-case hexadecimal digits
}

struct RenderRequest {
  revision @0 :Text;        # full commit hash; exactly this one is read
  path @1 :Text;            # path of the file in the repository, with forward slashes
  sopsPath @2 :Text;        # path of the .sops.yaml, which must exist then; null where not given
  keys @3 :List(DecryptionKey);
}

struct DecryptionKey {
  union {
    age @0 :Text;           # age identities, one a line
    pgp @1 :Text;           # OpenPGP private key, ASCII-armored
  }
}

struct Rendered {
  revision @0 :Text;            # the one that was asked for
  documents @1 :List(Data);     # each one JSON text in UTF-8, in the order of the file
  receipt @2 :Receipt;
}

struct HeadResult {
  union {
    head @0 :Head;
    failure @1 :Failure;
  }
}

struct RenderResult {
  union {
    rendered @0 :Rendered;
    failure @1 :Failure;
  }
}

struct Failure {
  reason @0 :Text;          # CamelCase; the table is in jiemi/core/errors.py
  message @1 :Text;         # at most 1,000 characters, safe to show anyone who may read the Decryptor
  retry @2 :RetryKind;      # what happens next; for peers that do not know the reason
}

enum RetryKind {
  transient @0;             # it may work when tried again
  waiting @1;               # a dependency is not there yet; asked again soon
  stalled @2;               # the user must act
}
