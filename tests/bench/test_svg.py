"""python3 -m unittest discover tests/bench"""

import unittest
import xml.etree.ElementTree as xml

from common.figures import natural
from common.svg import Axis, Bars, Chart, Series, nice_step, number

SVG = "{http://www.w3.org/2000/svg}"


class Drawings(unittest.TestCase):
    def test_steps_are_one_two_or_five(self):
        self.assertEqual([nice_step(high) for high in (5, 7, 12, 24, 30, 1e6)], [1, 2, 5, 5, 10, 200_000])

    def test_axes_put_values_where_they_belong(self):
        linear = Axis.over([3, 9], 400, 0, False)
        self.assertEqual((linear.low, linear.high, linear.at(0), linear.at(10)), (0, 10, 400, 0))
        log = Axis.over([20, 5000], 0, 300, True)
        self.assertEqual(log.ticks(), [10, 100, 1000, 10_000])
        self.assertEqual([log.at(value) for value in log.ticks()], [0, 100, 200, 300])

    def test_a_chart_is_xml_with_a_point_for_each_value(self):
        chart = Chart("a < b", x="x & y", y="y", log_x=True)
        chart.add(Series("one", [(10, 1), (1000, 3)], "ours"))
        chart.add(Series("two", [(10, 2), (100, 2.5)], "theirs", 1))
        chart.add(Series("nothing", [], "theirs", 2))
        root = xml.fromstring(chart.svg())
        words = [element.text for element in root.iter(f"{SVG}text")]
        self.assertTrue({"a < b", "x & y", "one", "two", "1,000"} <= set(words))
        self.assertNotIn("nothing", words)
        # Each series' own points, and one in the legend.
        self.assertEqual(len(root.findall(f"{SVG}circle")), 3)
        self.assertEqual(len(root.findall(f"{SVG}rect")), 1 + 3)

    def test_bars_grow_both_ways_from_one(self):
        bars = Bars("t", "x")
        bars.add("slow", 0.1, "w")
        bars.add("fast", 10, "w")
        _, slow, fast = xml.fromstring(bars.svg()).findall(f"{SVG}rect")
        self.assertEqual(float(slow.get("x")) + float(slow.get("width")), float(fast.get("x")))

    def test_names_sort_by_their_numbers(self):
        names = ["idle_100_x", "idle_20_x", "idle_20_a"]
        self.assertEqual(sorted(names, key=natural), ["idle_20_a", "idle_20_x", "idle_100_x"])
        self.assertEqual([number(value) for value in (0.25, 2, 2.5, 1e5)], ["0.25", "2", "2.5", "100,000"])


if __name__ == "__main__":
    unittest.main()
