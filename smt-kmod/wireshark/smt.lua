-- SPDX-License-Identifier: GPL-2.0-or-later
-- SMT for Wireshark: wireshark -X lua_script:smt.lua capture.pcapng
--
-- Both published variants (A: IP protocol 253, B: 146), and the records put together of their
-- packets. Nothing is decrypted: the Lua of distributions has no AES-GCM; 'nicmodel decrypt' does.

local TYPES = {
	[0x10] = "DATA", [0x11] = "GRANT", [0x12] = "RESEND", [0x13] = "UNKNOWN", [0x14] = "BUSY",
	[0x15] = "CUTOFFS", [0x16] = "FREEZE", [0x17] = "NEED_ACK", [0x18] = "ACK",
}
local SIZES = {
	[0x10] = 40, [0x11] = 33, [0x12] = 37, [0x13] = 28, [0x14] = 28, [0x15] = 62, [0x16] = 28,
	[0x17] = 28, [0x18] = 90,
}
local DATA, GRANT, RESEND, CUTOFFS, ACK = 0x10, 0x11, 0x12, 0x15, 0x18
local LEAD, TAG = 13, 16

local smt = Proto("smt", "Secure Message Transport")
local f = {
	variant = ProtoField.string("smt.variant", "Variant"),
	sport = ProtoField.uint16("smt.srcport", "Source port"),
	dport = ProtoField.uint16("smt.dstport", "Destination port"),
	type = ProtoField.uint8("smt.type", "Type", base.HEX, TYPES),
	id = ProtoField.uint64("smt.id", "Sender's RPC id"),
	length = ProtoField.uint32("smt.message_length", "Message length"),
	incoming = ProtoField.uint32("smt.incoming", "Sent without grants"),
	cutoff = ProtoField.uint16("smt.cutoff_version", "Cutoff version"),
	again = ProtoField.bool("smt.retransmit", "Sent again"),
	offset = ProtoField.uint32("smt.offset", "Offset of the segment"),
	index = ProtoField.uint16("smt.index", "Packet in the segment"),
	range = ProtoField.uint32("smt.range_offset", "Offset"),
	range_length = ProtoField.uint32("smt.range_length", "Bytes"),
	priority = ProtoField.uint8("smt.priority", "Priority"),
	unscheduled = ProtoField.uint32("smt.unscheduled", "Unscheduled cutoff"),
	acks = ProtoField.uint16("smt.acks", "Acknowledgements"),
	ack_id = ProtoField.uint64("smt.ack.id", "Acknowledged id"),
	ack_client = ProtoField.uint16("smt.ack.client_port", "Client port"),
	ack_server = ProtoField.uint16("smt.ack.server_port", "Server port"),
	record = ProtoField.bytes("smt.record", "Record"),
	record_type = ProtoField.uint8("smt.record.type", "Content type"),
	record_version = ProtoField.uint16("smt.record.version", "Version", base.HEX),
	record_length = ProtoField.uint16("smt.record.length", "Length"),
	record_number = ProtoField.uint64("smt.record.number", "Record number", base.HEX),
	sealed = ProtoField.bytes("smt.record.sealed", "Encrypted framing headers and data"),
	tag = ProtoField.bytes("smt.record.tag", "Tag"),
	packets = ProtoField.uint32("smt.record.packets", "Packets of the record"),
	clear = ProtoField.bytes("smt.clear", "Framing header and data, not encrypted"),
	piece = ProtoField.bytes("smt.piece", "Bytes of a record"),
}
smt.fields = f
local short = ProtoExpert.new("smt.short", "Packet is shorter than its type", expert.group.MALFORMED,
	expert.severity.ERROR)
local odd = ProtoExpert.new("smt.number", "Record number is not that of the message",
	expert.group.PROTOCOL, expert.severity.WARN)
smt.experts = { short, odd }

local ip_id = Field.new("ip.id")
local pending = {}	-- what there is of each segment, while frames are read in order
local whole = {}	-- by frame number: the record that it completed

function smt.init()
	pending, whole = {}, {}
end

-- Remember a packet; when its record is whole, keep that for the frame.
local function remember(pinfo, key, index, bytes)
	local segment = pending[key] or { packets = {} }
	pending[key] = segment
	segment.packets[index] = segment.packets[index] or bytes
	local first = segment.packets[0]
	if not first or first:len() < 5 then return end
	local want = 5 + first:get_index(3) * 256 + first:get_index(4)
	local record = ByteArray.new()
	local at = 0
	while record:len() < want do
		if not segment.packets[at] then return end
		record:append(segment.packets[at])
		at = at + 1
	end
	if record:len() == want then
		whole[pinfo.number] = { bytes = record, packets = at }
		pending[key] = nil
	end
end

local function show_record(tvb, tree, variant, id, packets)
	local length = tvb:len()
	local branch = tree:add(f.record, tvb(0, length))
	branch:set_text(string.format("Record: %d bytes of %d packets", length, packets))
	branch:add(f.packets, packets):set_generated()
	branch:add(f.record_type, tvb(0, 1))
	branch:add(f.record_version, tvb(1, 2))
	branch:add(f.record_length, tvb(3, 2))
	local number = branch:add(f.record_number, tvb(5, 8))
	if variant == "A" then
		-- ((id mod 2^49) >> 1) << 16 | index
		local message = id:band(UInt64(0xffffffff, 0x1ffff)):rshift(1)
		if tvb(5, 8):uint64():rshift(16) ~= message then number:add_proto_expert_info(odd) end
	end
	if length > LEAD + TAG then
		branch:add(f.sealed, tvb(LEAD, length - LEAD - TAG))
		branch:add(f.tag, tvb(length - TAG, TAG))
	end
end

local function show_data(tvb, pinfo, tree, variant, id, index, offset, start)
	local payload = tvb(start)
	tree:add(f.index, index):set_generated()
	local begins = payload:len() >= 5 and payload(0, 1):uint() == 0x17
		and payload(1, 2):uint() == 0x0303
	if index == 0 and not begins then
		tree:add(f.clear, payload)
		return
	end
	if not pinfo.visited then
		local key = table.concat({ tostring(pinfo.src), tostring(pinfo.dst), pinfo.src_port,
			pinfo.dst_port, tostring(id), offset }, "/")
		remember(pinfo, key, index, payload:bytes())
	end
	tree:add(f.piece, payload)
	local done = whole[pinfo.number]
	if done then
		show_record(done.bytes:tvb("SMT record"), tree, variant, id, done.packets)
	end
end

local function dissect(variant, tvb, pinfo, root)
	pinfo.cols.protocol = "SMT-" .. variant
	local tree = root:add(smt, tvb())
	tree:add(f.variant, variant):set_generated()
	if tvb:len() < 28 then
		tree:add_proto_expert_info(short)
		return
	end
	local type_at = variant == "A" and 13 or 11
	local kind = tvb(type_at, 1):uint()
	local name = TYPES[kind] or string.format("type %#x", kind)
	local id = tvb(20, 8):uint64()
	pinfo.src_port, pinfo.dst_port = tvb(0, 2):uint(), tvb(2, 2):uint()
	tree:append_text(string.format(" %s, %s", variant, name))
	tree:add(f.sport, tvb(0, 2))
	tree:add(f.dport, tvb(2, 2))
	tree:add(f.type, tvb(type_at, 1))
	tree:add(f.id, tvb(20, 8))
	local info = string.format("%d → %d %s id %s", pinfo.src_port, pinfo.dst_port, name, tostring(id))
	local size = kind == DATA and variant == "B" and 52 or SIZES[kind]
	if variant == "B" and kind ~= DATA then size = 28 end
	if not size or tvb:len() < size then
		tree:add_proto_expert_info(short)
		pinfo.cols.info = info
		return
	end
	if kind == DATA then
		local length, offset, index = tvb(28, 4):uint(), 0, ip_id().value
		tree:add(f.length, tvb(28, 4))
		tree:add(f.incoming, tvb(32, 4))
		local start = 40
		if variant == "A" then
			offset = tvb(14, 2):uint() * 65536 + tvb(18, 2):uint()
			tree:add(f.cutoff, tvb(36, 2))
			tree:add(f.again, tvb(38, 1))
			index = index + tvb(39, 1):uint()
		else
			start = math.max(52, tvb(12, 1):bitfield(0, 4) * 4)
			local flags = tvb(48, 1):uint()
			offset = tvb(49, 3):uint()
			tree:add(f.cutoff, tvb(46, 2))
			tree:add(f.again, tvb(48, 1), flags % 2 == 1)
			if math.floor(flags / 2) % 2 == 1 then index = math.floor(flags / 16) end
		end
		tree:add(f.offset, offset):set_generated()
		info = string.format("%s, %d of %d bytes, packet %d", info, offset, length, index)
		if tvb:len() > start then
			show_data(tvb, pinfo, tree, variant, id, index, offset, start)
		end
	elseif variant == "A" and kind == GRANT then
		tree:add(f.range, tvb(28, 4))
		tree:add(f.priority, tvb(32, 1))
		info = string.format("%s up to %d", info, tvb(28, 4):uint())
	elseif variant == "A" and kind == RESEND then
		tree:add(f.range, tvb(28, 4))
		tree:add(f.range_length, tvb(32, 4))
		tree:add(f.priority, tvb(36, 1))
		info = string.format("%s %d bytes at %d", info, tvb(32, 4):uint(), tvb(28, 4):uint())
	elseif variant == "A" and kind == CUTOFFS then
		for place = 0, 7 do tree:add(f.unscheduled, tvb(28 + 4 * place, 4)) end
		tree:add(f.cutoff, tvb(60, 2))
	elseif variant == "A" and kind == ACK then
		tree:add(f.acks, tvb(28, 2))
		for place = 0, math.min(tvb(28, 2):uint(), 5) - 1 do
			local at = 30 + 12 * place
			tree:add(f.ack_id, tvb(at, 8))
			tree:add(f.ack_client, tvb(at + 8, 2))
			tree:add(f.ack_server, tvb(at + 10, 2))
		end
	end
	pinfo.cols.info = info
end

function smt.dissector(tvb, pinfo, tree)
	dissect("A", tvb, pinfo, tree)
	return tvb:len()
end

local variant_b = Proto("smt_b", "Secure Message Transport, variant B")
function variant_b.dissector(tvb, pinfo, tree)
	dissect("B", tvb, pinfo, tree)
	return tvb:len()
end

local protocols = DissectorTable.get("ip.proto")
protocols:add(253, smt)
protocols:add(146, variant_b)
