@0xc3f1a5d2b7e94608;
# The contract between Miwen (the client) and Krapao (the server): Cap'n Proto RPC over one stream, level 1.
#
# Object capabilities, not a list of functions: the bootstrap capability opens a session, the session opens a repository
# (its source and git credentials go in once), and the holder of a Repository may read that repository. Releasing a capability
# ends what it stands for; so does the end of the connection.
#
#     bootstrap -> Krapao.openSession -> Session.openRepository -> Repository.head / files / changes / render / watch
#
# Opening never fails by itself, so each step may be pipelined on the one before: open + head is one round trip.
#
# Rules for changes of this file:
#   - add fields and methods with the next free number; never renumber, retype or reuse one;
#   - a pointer that is null means "not given", which is not the same as empty text;
#   - a field's default must mean what an older peer, which does not know the field, means;
#   - a field of a request that restricts something has one in the answer that confirms it, because older peers ignore it;
#   - a new kind of git credential is named in `required` of openRepositoryRequiring, because without it Krapao would ask the
#     host as nobody;
#   - what goes wrong is a Failure in a result, never an exception: an exception carries a traceback to the peer.
# jiemi/rpc/contract.py and source.py have the same contract as Python values; jiemi/rpc/codec translates.

const protocolVersion :UInt16 = 1;
# What this file describes. It grows only when adding is not enough.

interface Krapao {
  # The bootstrap capability.

  openSession @0 (protocolVersion :UInt16, secret :Text)
      -> (session :Session, protocolVersion :UInt16, failure :Failure, secretChecked :Bool);
  # Each end sends the version that it speaks, and both then speak the lower one. It must be the first call, come soon
  # after the connection (a connection that opens no session is closed), and come once.
  #
  # secret: shows that the client is Miwen, where the server wants that (jiemi/rpc/session_secret.py); null for none.
  # failure: why there is no session; null where there is one. A client that does not know the field gets a session all the
  # same, and every method of every repository returns the failure; the connection is closed soon.
  # secretChecked: the server has compared the secret, and it is right.
}

interface Session {
  openRepository @0 (source :Source, credentials :GitCredentials, tenant :Text) -> (repository :Repository);
  # Never fails and does not ask the git host. If the source is wrong, or a limit is reached, every method of the repository
  # returns that failure. tenant: an opaque id of the tenant that the repository is opened for, at most 64 characters of
  # A-Z a-z 0-9 . _ -; Krapao shares time and memory fairly between tenants. Clients that give null or an empty text share
  # one tenant. It is no credential and gives access to nothing.

  openRepositoryRequiring @1 (source :Source, credentials :GitCredentials, tenant :Text, required :List(Text),
                              verification :Verification)
      -> (repository :Repository);
  # The same, for credentials that not every Krapao knows. required: the names of the fields of `credentials` that must not be
  # ignored. If the server does not know one of them, every method of the repository returns that failure. A server that does
  # not know this method knows none of the fields that need it.
  #
  # verification: what a revision must be signed by before a file of it is looked at; null for nothing. Where it is not null,
  # `required` has the name "verify". Every method that looks into a revision then returns a failure until it is verified.

  ping @2 () -> ();
  # Does nothing. That it is answered shows that the server is there; that a server does not know it shows it as well.
}

interface Repository {
  # A repository that is open; released, Krapao forgets it. Cancelling a call ends its work.

  # traceparent, of this and other calls: the trace that the call belongs to, in W3C Trace Context's form; null for none. It is
  # for logs and traces alone. A text of any other form counts as null.

  head @0 (maxAgeSeconds :Float64, traceparent :Text) -> (result :HeadResult);
  # The newest revision of the followed ref. maxAgeSeconds: seconds; an answer of the host that old at most will do, 0 asks
  # the host now. Not negative and not NaN.

  render @1 (request :RenderRequest, traceparent :Text) -> (result :RenderResult);
  # One file of one revision, decrypted.

  watch @2 (watcher :Watcher) -> (subscription :Subscription);
  # Notifies the watcher when the followed ref is seen to move, until the subscription is released.

  files @3 (request :FilesRequest, traceparent :Text) -> (result :FilesResult);
  # Which files of one revision match. Decrypts nothing.

  changes @4 (request :ChangesRequest, traceparent :Text) -> (result :ChangesResult);
  # Where two revisions differ, so that a client knows for which of its patterns `files` may answer otherwise. It answers
  # RevisionNotFound where this repository does not know both, or has not got the earlier one any longer.

  verify @5 (request :FilesRequest, traceparent :Text) -> (result :VerifyResult);
  # Whether a revision is signed as the opening wants it, and by whom; where several signers are wanted for each file, whether
  # the files that match have them. Opens no file.
}

interface Watcher {
  # Implemented by the client.

  moved @0 (head :Head, traceparent :Text) -> ();
  # The newest revision, and the trace of the call that saw it move. The next call comes when this one has returned, and has only the newest of what moved meanwhile.

  ended @1 (failure :Failure) -> ();
  # There will be no further notification, and why.
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
    name @5 :Text;          # full name: refs/pull/420/head
    tags @6 :TagRange;      # the newest version among these
  }
  submodules @7 :Submodules;  # null where nothing in submodules is looked at
}

struct Submodules {
  # Where it is not null, `required` of openRepositoryRequiring has the name "submodules": a Krapao that does not know it would
  # leave files out.
  hosts @0 :List(Text);     # names of hosts that submodules may be on, beside the repository's own
}

struct TagRange {
  versions @0 :Text;        # range of semantic versions; jiemi/core/semver.py reads it
  matching @1 :Text;        # regular expression (RE2) that is found in the tag's name; null for all tags
}

struct GitCredentials {
  # Each null where it is not given.
  username @0 :Text;        # for https; for ssh the user where the URL names none
  token @1 :Text;           # password or access token, for https
  ssh @2 :Text;             # private key in OpenSSH or PEM form
  knownHosts @3 :Text;      # lines of a known_hosts file (sshd(8))
  bearer @4 :Text;          # token that https sends as `Authorization: Bearer` (RFC 6750)
  caBundle @5 :Text;        # certificates of authorities for https (PEM), beside those that Krapao trusts
  clientCertificate @6 :Text;  # for https, with its chain (PEM)
  clientKey @7 :Text;       # its private key (PEM)
  passphrase @8 :Text;      # of the key `ssh`
  githubAppId @9 :Text;     # id or client id of a GitHub App, for https
  githubAppPrivateKey @10 :Text;         # of that App (PEM)
  githubAppInstallationId @11 :Text;     # number of its installation; null where the host is to be asked
  githubAppInstallationOwner @12 :Text;  # organization or user whose installation is meant
  githubAppBaseUrl @13 :Text;            # of the host's API; null for a public GitHub's
  proxyUrl @14 :Text;       # of the proxy to the host, in place of Krapao's own: http, https or socks5
  proxyUsername @15 :Text;
  proxyPassword @16 :Text;
}

struct Verification {
  # jiemi/rpc/verification.py describes each field.
  mode @0 :Text;            # Commit, Tag, TagAndCommit; any other is refused
  kind @1 :Text;            # pgp, ssh; any other is refused
  keys @2 :List(PublicKeys);
  signers @3 :List(Text);
  authors @4 :List(Text);
  committers @5 :List(Text);
  minimumSigners @6 :UInt16 = 1;
  historyCommits @7 :UInt16;
}

struct PublicKeys {
  name @0 :Text;            # for messages
  data @1 :Data;
}

struct Verified {
  revision @0 :Text;        # the one that was asked for
  commit @1 :Signer;        # null where the commit need not be signed
  tag @2 :Signer;           # null where no tag need be signed
  ref @3 :Text;             # full name of the tag; null where none need be signed
  validUntil @4 :Int64;     # when the first key or signature expires, in seconds since the epoch; 0 for never
}

struct Signer {
  name @0 :Text;
  key @1 :Text;             # fingerprint
}

struct Head {
  revision @0 :Text;        # full commit hash, 40 or 64 lower-case hexadecimal digits
  ref @1 :Text;             # full name of the ref that names it; null where the commit itself was asked for
}

struct FilesRequest {
  revision @0 :Text;        # full commit hash; exactly this one is looked at
  patterns @1 :List(Text);  # paths and globs; jiemi/core/content/globs.py defines them
  exclude @2 :List(Text);   # globs of files that are left out of what globs match
}

struct ChangesRequest {
  before @0 :Text;          # full commit hash
  after @1 :Text;           # full commit hash
}

struct RenderRequest {
  revision @0 :Text;        # full commit hash; exactly this one is read
  path @1 :Text;            # path of the file in the repository, with forward slashes
  sopsPath @2 :Text;        # path of the .sops.yaml, which must exist then; null where not given
  keys @3 :List(DecryptionKey);
  wholeFile @4 :Bool;       # the decrypted file itself is wanted, not the documents in it
  allowedRecipients @5 :List(Text);  # patterns of the recipients that may be used; empty for all
  allowPlain @6 :Bool;      # a file without SOPS metadata is taken as it is
  nested @7 :List(NestedPlaces);  # where values may be SOPS files themselves, which are decrypted in their place
  requireFullMac @8 :Bool;  # a file whose MAC covers its encrypted values only is refused
  format @9 :Text;          # the file's format (yaml, json, dotenv, ini, binary); null: it follows from the name
}

struct NestedPlaces {
  # Which values are looked at, in each object that a document is, or that is listed in one. jiemi/rpc/contract.py has more.
  having @0 :List(Member);  # what an object must have
  lacking @1 :List(Text);   # names that it must not have
  texts @2 :List(Text);     # fields whose values are texts by name
  encoded @3 :List(Text);   # fields whose values are base64 by name
  own @4 :Bool;             # the object's own values are such texts
  lists @5 :List(Text);     # fields that list further objects
  unless @6 :List(Text);    # names that lead to a text, and that text: such an object is left as it is
  content @7 :Bool;         # the file itself, where it is wanted whole
}

struct Member {
  name @0 :Text;
  value @1 :Text;
}

struct DecryptionKey {
  # The credentials for one kind of key service. jiemi/rpc/keys.py describes each field; each is null where not given.
  union {
    age @0 :Text;           # age identities, one per line, and OpenSSH private keys
    pgp @1 :Text;           # OpenPGP private keys, ASCII-armored
    aws @3 :AwsKey;
    gcp @4 :GcpKey;
    azure @5 :AzureKey;
    vault @6 :VaultKey;
    huawei @7 :HuaweiKey;
  }
  pgpPassphrase @2 :Text;
  origins @8 :List(KeyOrigin);  # of age and pgp: where the lines of the key come from, if from several places
}

struct KeyOrigin {
  name @0 :Text;            # the field, Secret and key, for messages
  lines @1 :UInt32;         # how many lines of the key
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
  allowedAddresses @12 :List(Text);     # patterns of the servers that may get the token; empty where no policy bounds them
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
  direct @3 :Bool;              # no symbolic link was followed on the way to any of them, or to a .sops.yaml of theirs
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
  encrypted @6 :Bool = true;    # false where a plain file was let through
  opened @7 :UInt32;            # how many values in it were SOPS files and are decrypted
  carriageReturns @8 :List(Text);  # names of dotenv and INI values that hold a carriage return, the first ones
  format @9 :Text;              # the one that the request stated and that was obeyed; null where there is none
  plainDocuments @10 :List(UInt32);  # indexes of documents that are not encrypted, in a file in which others are
}

struct Encryption {
  # What the file says about its encryption. It is public, and as hostile as the file.
  recipients @0 :List(Text);
  lastModified @1 :Text;        # RFC 3339; null where the file does not say
  sopsVersion @2 :Text;         # null where the file does not say
  staleRecipients @3 :List(Text);  # those that the repository's .sops.yaml does not name
  keyExpiresAt @4 :Text;        # of the key that opened it (RFC 3339); null where it does not expire
  mac @5 :MacCoverage;          # what the MAC covers
}

enum MacCoverage {
  unknown @0;                   # this Krapao does not say
  everything @1;
  onlyEncrypted @2;             # mac_only_encrypted: all else can be changed without a key
}

struct HeadResult {
  union {
    head @0 :Head;
    failure @1 :Failure;
  }
}

struct VerifyResult {
  union {
    verified @0 :Verified;
    failure @1 :Failure;
  }
}

struct FilesResult {
  union {
    files @0 :Files;
    failure @1 :Failure;
  }
}

struct Changes {
  # `files` answers alike for both revisions, where it is `direct` for one of them, if no pattern matches any of these.
  paths @0 :List(Text);         # files that one of them has, and the other has not or has otherwise
  folders @1 :List(Text);       # paths that end in "/", or "" for all: anything below may be another, or get another .sops.yaml
  receipt @2 :Receipt;
}

struct ChangesResult {
  union {
    changes @0 :Changes;
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
  reason @0 :Text;          # CamelCase; the table is in jiemi/core/reasons.py
  message @1 :Text;         # at most 1,000 characters, safe to show anyone who may read the Decryptor
  retry @2 :RetryKind;      # what happens next; for peers that do not know the reason
  remedy @3 :Text;          # what to do about this very case, a sentence; empty where the reason's own says it
  path @4 :Text;            # the path in the repository that is wrong, as it was asked for; empty where none is
}

enum RetryKind {
  transient @0;             # it may work when tried again
  waiting @1;               # a dependency is not there yet; it is checked again soon
  stalled @2;               # the user must act
}
