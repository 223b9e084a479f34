"""python3 -m unittest discover tests/bench"""

import unittest

from common.figures import Goal, Line, Samples, add_round, amount, markdown, parse, ratio


class Figures(unittest.TestCase):
    def test_only_whole_lines_of_three_words_are_figures(self):
        text = "rogue: spin\nlocal_call 620.5 ns/roundtrip\n  spawn 1300 ns/actor \nnode up 7\nx 1 y z\n"
        self.assertEqual(
            parse(text),
            [Line("local_call", 620.5, "ns/roundtrip"), Line("spawn", 1300.0, "ns/actor")],
        )

    def test_a_round_is_the_median_of_its_repetitions(self):
        samples = {}
        add_round(samples, parse("a 3 ns\na 1 ns\na 2 ns\nb 5.0 MB/s"))
        add_round(samples, parse("a 10 ns"))
        self.assertEqual(samples["a"].values, [2, 10])
        self.assertEqual((samples["a"].median, samples["b"].median), (6, 5))
        self.assertEqual(samples["a"].told(), "6.00 (2.00-10.0)")
        with self.assertRaises(ValueError):
            add_round(samples, parse("a 1 ms"))

    def test_goals_bound_ratios_or_medians(self):
        self.assertEqual(Goal(1.5).told(), "<= 1.5")
        self.assertTrue(Goal(1.5).met(1.5, 9000) and not Goal(1.5).met(1.51, 1))
        throughput = Goal(1000, at_least=True, unit="MB/s")
        self.assertEqual(throughput.told(), ">= 1,000 MB/s")
        self.assertTrue(throughput.met(0.1, 1000) and not throughput.met(9.0, 999))
        self.assertIsNone(Goal(1.0).met(None, 5))

    def test_ratios_need_both_sides(self):
        self.assertEqual(ratio(Samples("ns", [2, 4]), Samples("ns", [6])), 0.5)
        self.assertIsNone(ratio(Samples("ns", [1]), None))
        self.assertIsNone(ratio(Samples("ns", []), Samples("ns", [1])))

    def test_numbers_and_tables_are_for_people(self):
        self.assertEqual([amount(v) for v in (0.5, 12.34, 620.4, 74000)], ["0.50", "12.3", "620", "74,000"])
        self.assertEqual(markdown(["a", "b"], [[1, "xyz"]]), "| a | b   |\n| - | --- |\n| 1 | xyz |\n")


if __name__ == "__main__":
    unittest.main()
