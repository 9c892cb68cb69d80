@0xc3f1a5d2b7e94608;
# The contract between Miwen (the client) and Krapao (the server): Cap'n Proto RPC over one stream, level 1.
#
# Object capabilities, not a list of functions: the bootstrap capability opens a session, the session opens a repository
# (its source and git credentials go in once), and who holds a Repository may read that repository. Releasing a capability
# ends what it stands for; so does the end of the connection.
#
#     bootstrap -> Krapao.openSession -> Session.openRepository -> Repository.head / files / render / watch
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

  files @3 (request :FilesRequest) -> (result :FilesResult);
  # Which files of one revision match. Decrypts nothing.
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
    commit @4 :Text;        # full commit hash: this one, whatever moves
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

struct FilesRequest {
  revision @0 :Text;        # full commit hash; exactly this one is looked at
  patterns @1 :List(Text);  # paths and globs; jiemi/core/globs.py tells what they mean
  exclude @2 :List(Text);   # globs of files that are left out of what globs match
}

struct RenderRequest {
  revision @0 :Text;        # full commit hash; exactly this one is read
  path @1 :Text;            # path of the file in the repository, with forward slashes
  sopsPath @2 :Text;        # path of the .sops.yaml, which must exist then; null where not given
  keys @3 :List(DecryptionKey);
  wholeFile @4 :Bool;       # the decrypted file itself is wanted, not the documents in it
  allowedRecipients @5 :List(Text);  # patterns of recipients that may be asked for the data key; empty for all
  allowPlain @6 :Bool;      # a file without SOPS metadata is taken as it is
}

struct DecryptionKey {
  # The credentials for one kind of key service. jiemi/rpc/keys.py tells what each field is; each is null where not given.
  union {
    age @0 :Text;           # age identities, one a line, and OpenSSH private keys
    pgp @1 :Text;           # OpenPGP private keys, ASCII-armored
    aws @3 :AwsKey;
    gcp @4 :GcpKey;
    azure @5 :AzureKey;
    vault @6 :VaultKey;
    huawei @7 :HuaweiKey;
  }
  pgpPassphrase @2 :Text;
}

struct AwsKey {
  keyId @0 :Text;
  accessKey @1 :Text;
  sessionToken @2 :Text;
  region @3 :Text;
  roleArn @4 :Text;
  endpoint @5 :Text;
  stsEndpoint @6 :Text;
  allowedKeys @7 :List(Text);
}

struct GcpKey {
  serviceAccount @0 :Text;
  accessToken @1 :Text;
  endpoint @2 :Text;
  allowedKeys @3 :List(Text);
}

struct AzureKey {
  tenantId @0 :Text;
  clientId @1 :Text;
  clientSecret @2 :Text;
  clientCertificate @3 :Text;
  authorityHost @4 :Text;
  allowedVaults @5 :List(Text);
}

struct VaultKey {
  address @0 :Text;
  pinnedAddress @1 :Text;
  token @2 :Text;
  roleId @3 :Text;
  secretId @4 :Text;
  appRoleMount @5 :Text;
  kubernetesRole @6 :Text;
  kubernetesToken @7 :Text;
  kubernetesMount @8 :Text;
  namespace @9 :Text;
  caBundle @10 :Text;
  allowedKeys @11 :List(Text);
}

struct HuaweiKey {
  accessKey @0 :Text;
  secretKey @1 :Text;
  projectId @2 :Text;
  allowedKeys @3 :List(Text);
}

struct Files {
  revision @0 :Text;            # the one that was asked for
  entries @1 :List(FileEntry);  # by path, each once
  receipt @2 :Receipt;
}

struct FileEntry {
  path @0 :Text;
  blob @1 :Text;                # git's hash of the file as it is in the repository: 40 or 64 lower-case hexadecimal digits
  config @2 :Text;              # likewise of the nearest .sops.yaml above it; null where there is none
}

struct Rendered {
  revision @0 :Text;            # the one that was asked for
  documents @1 :List(Data);     # each one JSON text in UTF-8, in the order of the file
  receipt @2 :Receipt;
  content @3 :Data;             # of a binary file, or where it was asked for, the file itself; null otherwise
  encryption @4 :Encryption;
  vaultAddress @5 :Text;        # the Vault server that was trusted because nothing named one; null otherwise
  encrypted @6 :Bool = true;    # false where allowPlain let a plain file through
}

struct Encryption {
  # What the file says of its encryption. Public, and as hostile as the file.
  recipients @0 :List(Text);
  lastModified @1 :Text;        # RFC 3339; null where the file does not say
  sopsVersion @2 :Text;         # null where the file does not say
  staleRecipients @3 :List(Text);  # those that the repository's .sops.yaml does not name
  keyExpiresAt @4 :Text;        # of the key that opened it (RFC 3339); null where it does not expire
}

struct HeadResult {
  union {
    head @0 :Head;
    failure @1 :Failure;
  }
}

struct FilesResult {
  union {
    files @0 :Files;
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
