-- SPDX-License-Identifier: MIT
-- luacni add

local cache = require "cni.runtime.cache"
local fail = require "cni.fail"
local host = require "host"
local job_of = require "cni.command.job"
local netlink = require "netlink"
local sandbox = require "cni.record.sandbox"
local say = require "cni.command.say"

-- Whether there is a link in a namespace; in one that is not there is none, and ADD says so.
local function has_link(netns, name)
  local ns <close> = sandbox.open(netns)
  if not ns then return false end
  local h <close>, msg, errno = netlink.open(ns)
  if not h then fail.kernel("open netlink in " .. netns, msg, errno) end
  local link
  link, msg, errno = h:get("link", { name = name }, { "index" })
  if errno then fail.kernel("look up link " .. name, msg, errno) end
  return link ~= nil
end

-- What fails is taken back by the interface's name: it must not be somebody else's.
local function must_be_free(job)
  if cache.load { network = job.network.name, id = job.id, ifname = job.ifname } then
    fail.throw { msg = ("%s of container %s is already attached to network %s"):format(job.ifname, job.id,
      job.network.name), hint = "luacni del takes it away" }
  elseif job.ifname ~= "lo" and has_link(job.netns, job.ifname) then
    fail.throw { msg = ("there is a %s in %s already"):format(job.ifname, job.netns),
      hint = "--ifname gives the new one another name" }
  end
end

return {
  words = "NETWORK NETNS",
  about = "attach a namespace to a network",
  text = "Calls ADD of the network's plugins and prints the result. One that fails is taken back, and so " ..
    "is one whose result cannot be printed, or that a signal asks to end: the plugin at work is ended. " ..
    "What one that was killed has left is taken back first. " ..
    "NETNS is a namespace's name below /run/netns, or its path. The container's ID is that of cnitool " ..
    "(made of the path) unless --id gives one. What is attached is stored in /var/lib/cni/results, as " ..
    "every runtime does it that is made of libcni.",
  least = 2, most = 2, network = true, calls = true,
  options = job_of.options { "conf-dir", "ifname", "args", "cap-args", "id" },
  examples = { "luacni add demo blue" },
  run = function(words, options)
    local network = job_of.network(words[1], options)
    local want = job_of.given(options)
    want.netns = job_of.netns(words[2])
    want.id = options.id or job_of.id_of(want.netns)
    local job = job_of.new(network, want)
    local verbs = require "cni.runtime.verbs"
    local signal = verbs.add(job, host.held_signal, function()
      must_be_free(job)
      host.hold_signals()
    end)
    if signal then return 128 + signal end
    local given, err = pcall(say.bytes, (job.result:gsub("\n*$", "\n")))
    if given then return end
    -- That nobody reads is news here.
    err.errno = nil
    verbs.take_back(job, err)
  end,
}
