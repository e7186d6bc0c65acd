-- Wireshark dissector for balsa's wire protocol, version 1 (docs/wire-protocol.md).
--
--   tshark -X lua_script:docs/balsa.lua -r capture.pcap -V
--   wireshark -X lua_script:docs/balsa.lua capture.pcap
--
-- It knows our datagrams by their first bytes, on any port. Sealed ones show their header only. Checksums are shown and
-- not verified: a capture taken on a sender may hold datagrams that never left it, but none that we would have dropped.
-- Try as filters: balsa.kind == 1, balsa.append.count > 0, balsa.src == 2, balsa.ack.reject == 1, balsa.malformed.

local balsa = Proto("balsa", "balsa, a Raft-replicated store")

local fields, all = {}, {}

-- field makes a ProtoField once: name is its filter name below "balsa.".
local function field(name, label, kind, values)
  local make = {
    u8 = ProtoField.uint8, u16 = ProtoField.uint16, u32 = ProtoField.uint32, u64 = ProtoField.uint64, x32 = ProtoField.uint32,
    x64 = ProtoField.uint64, ns = ProtoField.int64, str = ProtoField.string, raw = ProtoField.bytes, flag = ProtoField.uint8,
  }
  local f
  if kind == "x32" or kind == "x64" then
    f = make[kind]("balsa." .. name, label, base.HEX)
  elseif kind == "str" or kind == "raw" then
    f = make[kind]("balsa." .. name, label)
  else
    f = make[kind]("balsa." .. name, label, base.DEC, values)
  end
  fields[name] = f
  all[#all + 1] = f
  return f
end

local width = { u8 = 1, u16 = 2, u32 = 4, u64 = 8, x32 = 4, x64 = 8, ns = 8, flag = 1 }

local roles = { [0] = "blank", "follower", "pre-candidate", "candidate", "leader", "learner", "removed" }
local entry_kinds = { "no-op", "commands", "configuration", "base mark", "part of a command" }
local member_roles = { "voter", "learner" }
local verbs = { "add", "remove", "replace", "set", "cancel", "transfer" }
local mismatch_reasons = { "we take sealed datagrams only", "we read no sealed datagrams", "we do not hold that key" }
local chaos_verbs = { "crash", "pause", "cut" }
local chaos_outcomes = { "begun", "off", "refused" }

-- What each frame begins with: { offset, name, label, kind, values or the flag's bit }. A kind of "flag" is one bit of a byte.
-- rest names what follows at the offset given.
local frames = {
  [1] = { name = "append", rest = 64, follows = "entries", {
    { 0, "term", "Term", "u64" }, { 8, "previous", "Previous index", "u64" }, { 16, "previous_term", "Previous term", "u64" },
    { 24, "commit", "Commit index", "u64" }, { 32, "round", "Round", "u64" }, { 40, "sequence", "Sequence", "u64" },
    { 48, "timeout", "Timeout, ns", "ns" }, { 56, "count", "Entries", "u32" }, { 60, "leases", "Leases", "flag", 1 } } },
  [2] = { name = "ack", rest = 104, {
    { 0, "term", "Term", "u64" }, { 8, "boot", "Echoed boot", "x64" }, { 16, "round", "Echoed round", "u64" },
    { 24, "sequence", "Echoed sequence", "u64" }, { 32, "match", "Match", "u64" }, { 40, "last", "Last index", "u64" },
    { 48, "rejected", "Rejected previous index", "u64" }, { 56, "hint", "Hint index", "u64" }, { 64, "hint_term", "Hint term", "u64" },
    { 72, "timeout", "Echoed timeout, ns", "ns" }, { 80, "held1", "Held, first word", "x64" }, { 88, "held2", "Held, second word", "x64" },
    { 96, "reject", "Reject", "flag", 1 }, { 96, "full", "No room on the disk", "flag", 2 }, { 97, "disk", "Disk (0: well)", "u8" } } },
  [3] = { name = "vote", rest = 40, {
    { 0, "term", "Term", "u64" }, { 8, "last", "Last index", "u64" }, { 16, "last_term", "Last term", "u64" },
    { 24, "boot", "Asker's boot", "x64" }, { 32, "pre", "Pre-vote", "flag", 1 }, { 32, "transfer", "Transfer", "flag", 2 },
    { 33, "probe", "Result of the probe", "u8" } } },
  [4] = { name = "vote-reply", rest = 40, {
    { 0, "term", "Term", "u64" }, { 8, "boot", "Echoed boot", "x64" }, { 16, "last", "Last index", "u64" },
    { 24, "last_term", "Last term", "u64" }, { 32, "pre", "Pre-vote", "flag", 1 }, { 32, "granted", "Granted", "flag", 2 },
    { 33, "reason", "Reason", "u8" } } },
  [5] = { name = "timeout-now", rest = 24, {
    { 0, "term", "Term", "u64" }, { 8, "last", "Last index", "u64" }, { 16, "boot", "Leader's boot", "x64" } } },
  [6] = { name = "probe", rest = 24, {
    { 0, "boot", "Asker's boot", "x64" }, { 8, "nonce", "Nonce", "x64" }, { 16, "term", "Term", "u64" } } },
  [7] = { name = "probe-reply", rest = 32, {
    { 0, "boot", "Echoed boot", "x64" }, { 8, "nonce", "Nonce", "x64" }, { 16, "term", "Term", "u64" }, { 24, "leads", "Leads", "flag", 1 } } },
  [8] = { name = "join", rest = 40, follows = "configuration", {
    { 0, "boot", "Leader's boot", "x64" }, { 8, "term", "Term", "u64" }, { 16, "cluster", "Cluster", "raw", 16 },
    { 32, "incarnation", "Incarnation", "x64" } } },
  [10] = { name = "read-ask", rest = 24, {
    { 0, "boot", "Asker's boot", "x64" }, { 8, "nonce", "Nonce", "u64" }, { 16, "term", "Term", "u64" } } },
  [11] = { name = "read-answer", rest = 32, {
    { 0, "boot", "Echoed boot", "x64" }, { 8, "nonce", "Nonce", "u64" }, { 16, "term", "Term", "u64" }, { 24, "index", "Index", "u64" } } },
  [12] = { name = "address", rest = 16, follows = "address", { { 0, "index", "Index", "u64" }, { 8, "bytes", "Length", "u16" } } },
  [16] = { name = "found-ask", rest = 8, follows = "bytes", { { 0, "boot", "Asker's boot", "x64" } } },
  [17] = { name = "found-answer", rest = 16, follows = "configuration", {
    { 0, "boot", "Echoed boot", "x64" }, { 8, "blank", "Blank", "flag", 1 } } },
  [18] = { name = "found-list", rest = 0, follows = "configuration", {} },
  [32] = { name = "hello", rest = 8, follows = "bytes", { { 0, "nonce", "Nonce", "x64" } } },
  [33] = { name = "hello-reply", rest = 56, follows = "address-and-servers", {
    { 0, "nonce", "Nonce", "x64" }, { 8, "term", "Term", "u64" }, { 16, "log_time", "Log time, ns", "ns" }, { 24, "token", "Token", "x64" },
    { 32, "cluster", "Cluster", "raw", 16 }, { 48, "leader", "Leader", "u16" }, { 50, "blank", "Blank", "flag", 1 }, { 50, "removed", "Removed", "flag", 2 } } },
  [34] = { name = "request", rest = 8, follows = "bytes", { { 0, "count", "Operations", "u32" } } },
  [35] = { name = "reply", rest = 8, follows = "bytes", { { 0, "count", "Results", "u32" } } },
  [36] = { name = "not-leader", rest = 24, follows = "sequences", {
    { 0, "term", "Term", "u64" }, { 8, "leader", "Leader", "u16" }, { 10, "reason", "Reason", "u8" }, { 16, "count", "Operations refused", "u32" } } },
  [37] = { name = "status", rest = 8, { { 0, "nonce", "Nonce", "x64" } } },
  [38] = { name = "status-reply", rest = 56, follows = "configuration-and-servers", {
    { 0, "nonce", "Nonce", "x64" }, { 8, "term", "Term", "u64" }, { 16, "last", "Last index", "u64" }, { 24, "commit", "Commit index", "u64" },
    { 32, "applied", "Applied index", "u64" }, { 40, "id", "Id", "u16" }, { 42, "leader", "Leader", "u16" }, { 44, "role", "Role", "u8", roles } } },
  [39] = { name = "member", rest = 32, follows = "servers", {
    { 0, "nonce", "Nonce", "x64" }, { 8, "operation", "Operation", "x64" }, { 16, "hold", "Hold, ns", "ns" }, { 24, "verb", "Verb", "u8", verbs },
    { 25, "dry_run", "Dry run", "flag", 1 }, { 25, "force", "Force", "flag", 2 }, { 26, "hold_phase", "Phase to hold", "u8" } } },
  [40] = { name = "member-reply", rest = 48, follows = "configuration-and-text", {
    { 0, "nonce", "Nonce", "x64" }, { 8, "operation", "Operation", "x64" }, { 16, "index", "Index", "u64" }, { 24, "term", "Term", "u64" },
    { 32, "leader", "Leader", "u16" }, { 34, "outcome", "Outcome", "u8" }, { 35, "phase", "Phase", "u8" } } },
  [41] = { name = "chaos", rest = 24, {
    { 0, "nonce", "Nonce", "x64" }, { 8, "duration", "Duration, ns", "ns" }, { 16, "verb", "Verb", "u8", chaos_verbs } } },
  [42] = { name = "chaos-reply", rest = 16, {
    { 0, "nonce", "Nonce", "x64" }, { 8, "outcome", "Outcome", "u8", chaos_outcomes } } },
  [43] = { name = "token", rest = 8, { { 0, "token", "Token", "x64" } } },
  [44] = { name = "path-ask", rest = 24, follows = "bytes", {
    { 0, "boot", "Asker's boot", "x64" }, { 8, "nonce", "Nonce", "u64" }, { 16, "passes", "Size that passes", "u32" } } },
  [45] = { name = "path-echo", rest = 16, follows = "bytes", { { 0, "boot", "Echoed boot", "x64" }, { 8, "nonce", "Nonce", "u64" } } },
  [48] = { name = "fragment", rest = 32, follows = "bytes", {
    { 0, "message", "Message", "x64" }, { 8, "total", "Total", "u32" }, { 12, "offset", "Offset", "u32" }, { 16, "stride", "Stride", "u32" },
    { 20, "kind", "Kind of the whole", "u8" } } },
  [49] = { name = "fragment-status", rest = 56, {
    { 0, "message", "Message", "x64" }, { 8, "boot", "Echoed boot", "x64" }, { 16, "have", "Have", "u32" }, { 20, "grant", "Grant", "u32" },
    { 24, "bitmap", "Bitmap", "raw", 16 }, { 40, "overflows", "Overflows", "u32" }, { 44, "latest", "Latest", "u32" },
    { 48, "done", "Done", "flag", 1 } } },
  [50] = { name = "path-probe", rest = 16, follows = "bytes", {
    { 0, "boot", "Asker's boot", "x64" }, { 8, "nonce", "Nonce", "u64" } } },
  [52] = { name = "bulk", rest = 48, follows = "bytes", {
    { 0, "transfer", "Transfer", "x64" }, { 8, "number", "Number", "u64" }, { 16, "total", "Total", "u64" }, { 24, "checksum", "Checksum of the piece", "x64" },
    { 32, "piece", "Piece", "u32" }, { 36, "offset", "Offset", "u32" }, { 40, "stride", "Stride", "u32" } } },
  [53] = { name = "bulk-ack", rest = 72, {
    { 0, "transfer", "Transfer", "x64" }, { 8, "boot", "Echoed boot", "x64" }, { 16, "largest", "Largest number", "u64" }, { 24, "floor", "Floor", "u32" },
    { 28, "kept", "Kept beyond it", "u16" }, { 32, "overflows", "Overflows", "u32" }, { 36, "delay", "Delay, us", "u32" }, { 40, "bitmap", "Bitmap", "raw", 32 } } },
  [54] = { name = "pad", rest = 0, follows = "bytes", {} },
  [51] = { name = "path-answer", rest = 16, { { 0, "boot", "Echoed boot", "x64" }, { 8, "nonce", "Nonce", "u64" } } },
}

local kind_names = {}
for number, frame in pairs(frames) do
  kind_names[number] = frame.name
  for _, f in ipairs(frame[1]) do
    local values = type(f[5]) == "table" and f[5] or nil
    f.field = field(frame.name .. "." .. f[2], f[3], f[4], values)
  end
end

field("version", "Version", "u8")
field("oldest", "Oldest version", "u8")
field("sealed", "Sealed", "flag")
field("operator", "Operator", "flag")
field("cluster_tag", "Cluster tag", "x32")
field("src", "Source", "u16")
field("dst", "Destination", "u16")
field("key_epoch", "Key epoch", "u8")
field("newest_epoch", "Newest epoch", "u8")
field("body", "Body length", "u16")
field("incarnation", "Incarnation", "x64")
field("boot", "Boot", "x64")
field("packet", "Packet number", "u64")
field("token", "Address token", "x64")
field("kind", "Kind", "u8", kind_names)
field("length", "Length", "u16")
field("checksum", "Checksum", "x64")
field("tag", "Authentication tag", "raw")
field("bytes", "Bytes", "raw")
field("text", "Text", "str")
field("address", "Address", "str")
field("sequence", "Sequence number", "u64")
field("entry.index", "Index", "u64")
field("entry.term", "Term", "u64")
field("entry.time", "Log time, ns", "ns")
field("entry.checksum", "Checksum", "x64")
field("entry.kind", "Kind", "u8", entry_kinds)
field("entry.codec", "Codec", "u8")
field("entry.group", "Group", "u16")
field("entry.count", "Commands", "u32")
field("entry.raw", "Raw length", "u32")
field("entry.body", "Body", "raw")
field("configuration.cluster", "Cluster", "raw")
field("configuration.operation", "Operation", "x64")
field("configuration.leases", "Leases", "flag")
field("configuration.joint", "Joint", "flag")
field("configuration.target", "Has a target", "flag")
field("configuration.old", "Old voter", "u16")
field("member.id", "Id", "u16")
field("member.role", "Role", "u8", member_roles)
field("member.incarnation", "Incarnation", "x64")
field("server.id", "Id", "u16")

balsa.fields = all
local malformed = ProtoExpert.new("balsa.malformed", "Not laid out as version 1 is", expert.group.MALFORMED, expert.severity.ERROR)
balsa.experts = { malformed }

local function pad8(n) return math.floor((n + 7) / 8) * 8 end

local function bit_of(byte, bit) return math.floor(byte / bit) % 2 end

-- short marks what does not fit; true: it does not.
local function short(tree, range, need)
  if range:len() < need then
    tree:add_proto_expert_info(malformed, string.format("%d bytes, want %d", range:len(), need))
    return true
  end
  return false
end

-- from is what is left of a range at an offset, nil when nothing is.
local function from(range, offset)
  if offset >= range:len() then return nil end
  return range(offset, range:len() - offset)
end

local function add_flag(tree, name, range, bit)
  tree:add(fields[name], range, bit_of(range:uint(), bit))
end

local follow = {}

follow.bytes = function(tree, range) tree:add(fields["bytes"], range) end

follow.entries = function(tree, range)
  while range do
    if short(tree, range, 56) then return end
    local body = range(44, 4):le_uint()
    local size = 56 + pad8(body)
    if short(tree, range, size) then return end
    local index = range(0, 8):le_uint64()
    local t = tree:add(balsa, range(0, size), string.format("Entry %s, %s", tostring(index), entry_kinds[range(32, 1):uint()] or "of an unknown kind"))
    t:add_le(fields["entry.index"], range(0, 8))
    t:add_le(fields["entry.term"], range(8, 8))
    t:add_le(fields["entry.time"], range(16, 8))
    t:add_le(fields["entry.checksum"], range(24, 8))
    t:add_le(fields["entry.kind"], range(32, 1))
    t:add_le(fields["entry.codec"], range(33, 1))
    t:add_le(fields["entry.group"], range(34, 2))
    t:add_le(fields["entry.count"], range(36, 4))
    t:add_le(fields["entry.raw"], range(40, 4))
    if body > 0 then
      t:add(fields["entry.body"], range(56, body))
      if range(32, 1):uint() == 3 then follow.configuration(t, range(56, body)) end
    end
    range = from(range, size)
  end
end

-- members adds so many, and gives what is behind them.
local function members(tree, range, count, label)
  for _ = 1, count do
    if not range or short(tree, range, 16) then return nil end
    local address = range(3, 1):uint()
    local size = 16 + pad8(address)
    if short(tree, range, size) then return nil end
    local t = tree:add(balsa, range(0, size), label .. " " .. range(0, 2):le_uint())
    t:add_le(fields["member.id"], range(0, 2))
    t:add_le(fields["member.role"], range(2, 1))
    t:add_le(fields["member.incarnation"], range(8, 8))
    if address > 0 then t:add(fields["address"], range(16, address)) end
    range = from(range, size)
  end
  return range
end

follow.configuration = function(tree, range)
  if short(tree, range, 32) then return end
  local t = tree:add(balsa, range, "Configuration")
  t:add(fields["configuration.cluster"], range(0, 16))
  t:add_le(fields["configuration.operation"], range(16, 8))
  add_flag(t, "configuration.leases", range(24, 1), 1)
  add_flag(t, "configuration.joint", range(24, 1), 2)
  add_flag(t, "configuration.target", range(24, 1), 4)
  local old = range(28, 2):le_uint()
  local rest = members(t, from(range, 32), range(26, 2):le_uint(), "Member")
  if old > 0 then
    if not rest or short(t, rest, pad8(2 * old)) then return end
    for i = 0, old - 1 do t:add_le(fields["configuration.old"], rest(2 * i, 2)) end
    rest = from(rest, pad8(2 * old))
  end
  members(t, rest, range(30, 2):le_uint(), "Target")
end

follow.servers = function(tree, range)
  if short(tree, range, 8) then return end
  local count, rest = range(0, 2):le_uint(), from(range, 8)
  for _ = 1, count do
    if not rest or short(tree, rest, 8) then return end
    local address = rest(2, 1):uint()
    local size = 8 + pad8(address)
    if short(tree, rest, size) then return end
    local t = tree:add(balsa, rest(0, size), "Server " .. rest(0, 2):le_uint())
    t:add_le(fields["server.id"], rest(0, 2))
    if address > 0 then t:add(fields["address"], rest(8, address)) end
    rest = from(rest, size)
  end
end

-- two adds two things that stand one behind the other, the first with a given length.
local function two(tree, range, first, one, other)
  if first > 0 then
    if not range or short(tree, range, first) then return end
    one(tree, range(0, first))
    range = from(range, first)
  end
  if range then other(tree, range) end
end

local function text(name)
  return function(tree, range) tree:add(fields[name], range) end
end

follow.address = text("address")

follow["address-and-servers"] = function(tree, range, head)
  two(tree, range, head(52, 2):le_uint(), text("address"), follow.servers)
end

follow["configuration-and-servers"] = function(tree, range, head)
  two(tree, range, head(48, 4):le_uint(), follow.configuration, follow.servers)
end

follow["configuration-and-text"] = function(tree, range, head)
  two(tree, range, head(40, 4):le_uint(), follow.configuration, text("text"))
end

follow.sequences = function(tree, range, head)
  local function numbers(t, r)
    for i = 0, math.floor(r:len() / 8) - 1 do t:add_le(fields["sequence"], r(8 * i, 8)) end
  end
  two(tree, range, 8 * head(16, 4):le_uint(), numbers, text("address"))
end

-- payload adds what one frame says.
local function payload(tree, range, frame)
  if frame.rest > 0 and (not range or short(tree, range, frame.rest)) then
    if not range then tree:add_proto_expert_info(malformed, "an empty frame") end
    return
  end
  for _, f in ipairs(frame[1]) do
    if f[4] == "flag" then
      tree:add(f.field, range(f[1], 1), bit_of(range(f[1], 1):uint(), f[5]))
    elseif f[4] == "raw" then
      tree:add(f.field, range(f[1], f[5]))
    else
      tree:add_le(f.field, range(f[1], width[f[4]]))
    end
  end
  if frame.follows and range then
    local rest = from(range, frame.rest)
    if rest then follow[frame.follows](tree, rest, range) end
  end
end

-- body walks the frames, and gives their names.
local function body(tree, range)
  local names = {}
  while range do
    if short(tree, range, 8) then break end
    local kind, length = range(0, 1):uint(), range(2, 2):le_uint()
    local size = 8 + pad8(length)
    if short(tree, range, size) then break end
    local frame = frames[kind]
    local name = frame and frame.name or string.format("kind-%d", kind)
    names[#names + 1] = name
    local t = tree:add(balsa, range(0, size), "Frame: " .. name)
    t:add(fields["kind"], range(0, 1))
    t:add_le(fields["length"], range(2, 2))
    if frame then
      payload(t, length > 0 and range(8, length) or nil, frame)
    elseif length > 0 then
      t:add(fields["bytes"], range(8, length))
    end
    range = from(range, size)
  end
  return names
end

local function who(id) return id == 65535 and "client" or tostring(id) end

local function mismatch(buffer, pinfo, tree)
  local t = tree:add(balsa, buffer(), "balsa, a datagram that cannot be read")
  t:add(fields["version"], buffer(3, 1))
  t:add(fields["oldest"], buffer(6, 1))
  local newest, oldest = buffer(3, 1):uint(), buffer(6, 1):uint()
  local spoken = oldest == newest and "version " .. newest or string.format("versions %d to %d", oldest, newest)
  local reason = buffer(5, 1):uint()
  if reason == 0 then
    pinfo.cols.info = string.format("we speak %s, not %d", spoken, buffer(4, 1):uint())
  else
    pinfo.cols.info = mismatch_reasons[reason] or string.format("reason %d", reason)
  end
  return buffer:len()
end

function balsa.dissector(buffer, pinfo, tree)
  pinfo.cols.protocol = "balsa"
  if buffer(2, 1):uint() == 0 and buffer:len() >= 16 then return mismatch(buffer, pinfo, tree) end
  if buffer:len() < 64 then return 0 end
  local t = tree:add(balsa, buffer(), "balsa")
  local sealed, length = bit_of(buffer(3, 1):uint(), 1) == 1, buffer(14, 2):le_uint()
  t:add(fields["version"], buffer(2, 1))
  add_flag(t, "sealed", buffer(3, 1), 1)
  add_flag(t, "operator", buffer(3, 1), 2)
  t:add_le(fields["cluster_tag"], buffer(4, 4))
  t:add_le(fields["src"], buffer(8, 2))
  t:add_le(fields["dst"], buffer(10, 2))
  t:add_le(fields["key_epoch"], buffer(12, 1))
  t:add_le(fields["newest_epoch"], buffer(13, 1))
  t:add_le(fields["body"], buffer(14, 2))
  t:add_le(fields["incarnation"], buffer(16, 8))
  t:add_le(fields["boot"], buffer(24, 8))
  t:add_le(fields["packet"], buffer(32, 8))
  t:add_le(fields["token"], buffer(40, 8))
  local names = {}
  if 64 + length ~= buffer:len() then
    t:add_proto_expert_info(malformed, string.format("a body of %d bytes in a datagram of %d", length, buffer:len()))
  elseif sealed then
    names = { "sealed" }
    if length > 0 then t:add(fields["bytes"], buffer(48, length)) end
    t:add(fields["tag"], buffer(48 + length, 16))
  else
    if length > 0 then names = body(t, buffer(48, length)) end
    t:add_le(fields["checksum"], buffer(48 + length, 8))
  end
  pinfo.cols.info = string.format("%s -> %s  %s", who(buffer(8, 2):le_uint()), who(buffer(10, 2):le_uint()), table.concat(names, ", "))
  return buffer:len()
end

-- Ours begin with "bl" and a version that we speak, or with 0: an answer to another version.
balsa:register_heuristic("udp", function(buffer, pinfo, tree)
  if buffer:len() < 16 or buffer(0, 2):le_uint() ~= 0x6c62 then return false end
  local version = buffer(2, 1):uint()
  if version == 1 and buffer:len() < 64 or version > 1 then return false end
  balsa.dissector(buffer, pinfo, tree)
  return true
end)
