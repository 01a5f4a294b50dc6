-- SPDX-License-Identifier: MIT
-- make demo: what a newcomer sees of it is true, and nothing of the machine's is touched.

local t = require "support"

local words = { "spec-tests/demo", t.build .. "/cni-bin" }

-- What it prints to a terminal: python3's pty is one.
local function at_terminal(no_color)
  local out = t.run({ "python3", "-c", "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)", table.unpack(words) },
    { env = { "NO_COLOR=" .. no_color } })
  assert.is_truthy(out:find("8. What is left", 1, true), out)
  return out
end

describe("The demo", function()
  before_each(function() t.needs "nft-nat" end)

  it("attaches, checks, finds what was broken, and leaves nothing", function()
    local before = t.snapshot()
    local out, status, err = t.sh(words)
    assert.equal(0, status, out .. err)
    for _, text in ipairs { "create veth pair", "ipMasq", "table inet luacni", "c1: as it should be", "c2: as it should be",
      '"code"', "c1: gone", "c2: gone" } do
      assert.is_truthy(out:find(text, 1, true), text .. out)
    end
    assert.equal(3, select(2, out:gsub(" 1 received,", "")), out)
    local first, left = out:match "^(.*)\n8%. What is left\n(.*)$"
    for _, text in ipairs { "cni0", "10.22.0.", "table inet", "record: " } do
      assert.is_nil(left:find(text, 1, true), text .. left)
    end
    assert.is_truthy(first:find("cni0", 1, true) and left:find("uplink", 1, true))
    t.same(before, t.snapshot())
  end)

  it("has bold headings on a terminal alone, and not with NO_COLOR", function()
    assert.equal(8, select(2, at_terminal "":gsub("\27%[1m", "")))
    assert.is_nil(at_terminal "1":find("\27", 1, true))
    assert.is_nil((t.run(words)):find("\27", 1, true))
  end)
end)
